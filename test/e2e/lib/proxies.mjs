// Proxies and web servers to put between an agent and its relay: scripted ones that tell what they saw, and the real ones where they are installed.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { Program, cleanEnv, until } from './run.mjs';
import { freePort, listen } from './setup.mjs';

/** Joins two sockets; either's end or error is the other's. */
function join(a, b) {
  a.pipe(b).pipe(a);
  for (const [one, other] of [[a, b], [b, a]]) one.on('error', () => other.destroy()).on('close', () => other.destroy());
}

function dial(port, socket, done) {
  const there = net.connect(port, '127.0.0.1', () => done(there));
  there.on('error', () => socket.destroy());
}

/** An HTTP proxy: CONNECT only; every host is this machine. With `auth` ("user:password") nothing goes without it. */
export async function httpProxy(t, { auth } = {}) {
  const seen = [];
  const server = net.createServer((socket) => {
    let head = '';
    socket.on('error', () => {});
    socket.on('data', function more(part) {
      head += part.toString('latin1');
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      socket.off('data', more);
      socket.pause();
      const [, host, port] = /^CONNECT (\S+):(\d+) HTTP\/1\.1\r\n/.exec(head) ?? [];
      const basic = /^proxy-authorization: Basic (\S+)$/im.exec(head)?.[1];
      const given = basic && Buffer.from(basic, 'base64').toString();
      seen.push({ host, port: Number(port), auth: given });
      if (auth && given !== auth) return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n');
      dial(Number(port), socket, (there) => {
        socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
        join(socket, there);
      });
    });
  });
  return { port: await listen(t, server), seen, server };
}

/** A SOCKS5 proxy, likewise. */
export async function socksProxy(t, { auth } = {}) {
  const seen = [];
  const server = net.createServer(async (socket) => {
    socket.on('error', () => {});
    const read = async (n) => {
      for (;;) {
        const bytes = socket.read(n);
        if (bytes) return bytes;
        if (socket.destroyed || socket.readableEnded) throw new Error('it hung up');
        await new Promise((go) => socket.once('readable', go).once('close', go));
      }
    };
    try {
      const methods = await read((await read(2))[1]);
      const method = auth ? 2 : 0;
      if (!methods.includes(method)) return socket.end(Buffer.from([5, 0xff]));
      socket.write(Buffer.from([5, method]));
      let given;
      if (auth) {
        const user = await read((await read(2))[1]);
        const password = await read((await read(1))[0]);
        given = `${user}:${password}`;
        socket.write(Buffer.from([1, given === auth ? 0 : 1]));
        if (given !== auth) {
          seen.push({ auth: given });
          return socket.end();
        }
      }
      const kind = (await read(4))[3];
      const host = kind === 3 ? (await read((await read(1))[0])).toString() : (await read(kind === 1 ? 4 : 16)).join('.');
      const port = (await read(2)).readUInt16BE();
      seen.push({ host, port, auth: given });
      dial(port, socket, (there) => {
        socket.write(Buffer.from([5, 0, 0, 1, 127, 0, 0, 1, 0, 0]));
        join(socket, there);
      });
    } catch {
      socket.destroy();
    }
  });
  return { port: await listen(t, server), seen, server };
}

/** A box on the way that swallows TLS with ALPN beam/1 while `blocks`, and lets everything else through. */
export async function firewall(t, to) {
  const box = { blocks: true, swallowed: 0 };
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (hello) => {
      if (box.blocks && hello[0] === 0x16 && hello.includes('\x06beam/1')) {
        box.swallowed++;
        socket.resume(); // it hears, and never answers
        return;
      }
      socket.pause();
      dial(to, socket, (there) => {
        there.write(hello);
        join(socket, there);
      });
    });
  });
  box.port = await listen(t, server);
  return box;
}

/** Where a program is, or undefined. */
export function installed(name) {
  return [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'].map((dir) => path.join(dir, name)).find((file) => fs.existsSync(file));
}

async function answers(port) {
  await new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => resolve(socket.destroy()));
    socket.on('error', reject);
  });
  return true;
}

export async function tinyproxy(t, dir, auth) {
  const port = await freePort();
  const conf = path.join(dir, 'tinyproxy.conf');
  const lines = [`Port ${port}`, 'Listen 127.0.0.1', 'Timeout 600', 'MaxClients 50', 'Allow 127.0.0.1', 'LogLevel Error', `PidFile "${dir}/tinyproxy.pid"`];
  if (auth) lines.push(`BasicAuth ${auth.replace(':', ' ')}`);
  fs.writeFileSync(conf, `${lines.join('\n')}\n`);
  const program = new Program(t, installed('tinyproxy'), ['-d', '-c', conf], { env: cleanEnv(dir) });
  await until(() => answers(port), 'tinyproxy', 10_000);
  return { port, program };
}

export async function dante(t, dir) {
  const port = await freePort();
  const conf = path.join(dir, 'danted.conf');
  fs.writeFileSync(
    conf,
    `errorlog: stderr
logoutput: stderr
internal: 127.0.0.1 port = ${port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
`,
  );
  const program = new Program(t, installed('danted'), ['-f', conf, '-p', path.join(dir, 'danted.pid')], { env: cleanEnv(dir) });
  await until(() => answers(port), 'danted', 10_000);
  return { port, program };
}

/** nginx with a certificate of its own, in front of a relay's plain port: only /_beam/link is passed on. */
export async function nginx(t, dir, relayPort) {
  const port = await freePort();
  const root = path.join(dir, 'nginx');
  fs.mkdirSync(root);
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=web.test', '-keyout', `${root}/key.pem`, '-out', `${root}/cert.pem`], { stdio: 'ignore' });
  fs.writeFileSync(
    `${root}/nginx.conf`,
    `daemon off; master_process off; pid ${root}/pid; error_log stderr warn;
events {}
http {
  access_log off; client_body_temp_path ${root}/b; proxy_temp_path ${root}/p; fastcgi_temp_path ${root}/f; uwsgi_temp_path ${root}/u; scgi_temp_path ${root}/s;
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate ${root}/cert.pem; ssl_certificate_key ${root}/key.pem;
    location / { return 200 "a web server\\n"; }
    location /_beam/link {
      proxy_pass http://127.0.0.1:${relayPort};
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_buffering off;
    }
  }
}
`,
  );
  const program = new Program(t, installed('nginx'), ['-p', root, '-c', `${root}/nginx.conf`], { env: cleanEnv(dir) });
  await until(() => answers(port), 'nginx', 10_000);
  return { port, program };
}
