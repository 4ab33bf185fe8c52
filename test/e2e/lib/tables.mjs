// Reads the tables of test/tables; the files say what is in them. test/unit/http/test_malformed.c reads them too.
import fs from 'node:fs';
import path from 'node:path';
import { root } from './run.mjs';

const texts = { r: '\r', n: '\n', t: '\t', '\\': '\\', '"': '"', H: 'Host: t.test\r\n', G: 'GET / HTTP/1.1\r\n', P: 'POST / HTTP/1.1\r\n', O: 'HTTP/1.1 200 OK\r\n', C: 'Transfer-Encoding: chunked\r\n\r\n', E: '\r\n' };

function unescape(text) {
  return text.replace(/\\(?:x([0-9a-f]{2})|(.))/gi, (_, hex, one) => (hex ? String.fromCharCode(parseInt(hex, 16)) : texts[one]));
}

function lines(file) {
  return fs
    .readFileSync(path.join(root, 'test/tables', file), 'utf8')
    .split('\n')
    .map((text, i) => ({ text, line: i + 1 }))
    .filter(({ text }) => text && !text.startsWith('#'));
}

/** { line, want, end, text }; text has a character for each byte. */
export function readTexts(file) {
  return lines(file).map(({ text, line }) => {
    const [, want, end, rest] = /^(\w+)(?: (end)(?= |$))?(?: (.*))?$/.exec(text);
    return { line, want, end: !!end, text: unescape(rest ?? '') };
  });
}

export function frame(type, flags, id, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

function field(name, value) {
  const [n, v] = [Buffer.from(name, 'latin1'), Buffer.from(value, 'latin1')];
  return Buffer.concat([Buffer.from([0, n.length]), n, Buffer.from([v.length]), v]);
}

function payload(text, name) {
  const pseudo = { M: [':method', 'GET'], S: [':scheme', 'https'], A: [':authority', name], P: [':path', '/'] };
  const parts = [];
  for (const [, one, quoted, inside] of text.matchAll(/([MSAP])(?=\s|$)|"((?:\\.|[^"\\])*)"|\[([^\]]*)\]/g)) {
    if (one) parts.push(field(...pseudo[one]));
    else if (quoted !== undefined) parts.push(Buffer.from(unescape(quoted), 'latin1'));
    else {
      const pair = unescape(inside).replace(/t\.test/gi, name);
      const at = pair.indexOf('=', pair[0] === '=' ? 0 : 1);
      parts.push(field(pair.slice(0, at), pair.slice(at + 1)));
    }
  }
  return Buffer.concat(parts);
}

/** { line, want, code, bytes }: the frames of a row for the name `name`, preface and SETTINGS in front. */
export function readFrames(file, name) {
  return lines(file).map(({ text, line }) => {
    const [, want, code, rest] = /^(\w+) ?(\d*) \| (.*)$/.exec(text);
    const frames = rest.split(' ; ').map((part) => {
      const [, type, flags, id, body] = /^(\d+) (\d+) (\d+) ?(.*)$/.exec(part);
      return frame(Number(type), Number(flags), Number(id), payload(body, name));
    });
    return { line, want, code: Number(code), bytes: Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0), ...frames]) };
  });
}

/** The whole frames in `bytes`. */
export function framesOf(bytes) {
  const frames = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    if (at + 9 + length > bytes.length) break;
    frames.push({ type: bytes[at + 3], flags: bytes[at + 4], id: bytes.readUInt32BE(at + 5), payload: bytes.subarray(at + 9, at + 9 + length) });
    at += 9 + length;
  }
  return frames;
}
