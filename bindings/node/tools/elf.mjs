// What of a shared library's file the packaging looks at and changes: names, in place. 64-bit little-endian ELF, which is what Node runs on.
import fs from 'node:fs';

const DYNSYM = 11;
const DYNAMIC = 6;
const VERDEF = 0x6ffffffd;
const VERNEED = 0x6ffffffe;
const NEEDED = 1n;
const SONAME = 14n;
const RPATH = 15n;
const RUNPATH = 29n;

export class Elf {
  constructor(file) {
    this.file = file;
    this.bytes = fs.readFileSync(file);
    const b = this.bytes;
    if (b.length < 64 || b.readUInt32BE(0) !== 0x7f454c46 || b[4] !== 2 || b[5] !== 1) throw new Error(`${file}: not a 64-bit little-endian ELF file`);
    const at = Number(b.readBigUInt64LE(40));
    const size = b.readUInt16LE(58);
    this.sections = Array.from({ length: b.readUInt16LE(60) }, (_, i) => {
      const s = at + i * size;
      return { type: b.readUInt32LE(s + 4), at: Number(b.readBigUInt64LE(s + 24)), size: Number(b.readBigUInt64LE(s + 32)), link: b.readUInt32LE(s + 40) };
    });
    this.dynsym = this.sections.find((s) => s.type === DYNSYM);
    if (!this.dynsym) throw new Error(`${file}: no dynamic symbols`);
    this.strings = this.sections[this.dynsym.link];
  }

  text(offset) {
    const from = this.strings.at + offset;
    return this.bytes.toString('latin1', from, this.bytes.indexOf(0, from));
  }

  /** Dynamic symbols: { name, offset in the string table, defined }. */
  *symbols() {
    for (let at = this.dynsym.at + 24; at < this.dynsym.at + this.dynsym.size; at += 24) {
      const offset = this.bytes.readUInt32LE(at);
      if (offset) yield { name: this.text(offset), offset, defined: this.bytes.readUInt16LE(at + 6) !== 0 };
    }
  }

  *#dynamic() {
    const d = this.sections.find((s) => s.type === DYNAMIC);
    for (let at = d.at; at < d.at + d.size; at += 16) yield [this.bytes.readBigUInt64LE(at), Number(this.bytes.readBigUInt64LE(at + 8))];
  }

  #names(...tags) {
    return [...this.#dynamic()].filter(([tag]) => tags.includes(tag)).map(([, offset]) => ({ name: this.text(offset), offset }));
  }

  needed() {
    return this.#names(NEEDED).map((n) => n.name);
  }

  soname() {
    return this.#names(SONAME)[0]?.name;
  }

  rpath() {
    return this.#names(RPATH, RUNPATH)[0]?.name;
  }

  /** Version tables name files and versions: { name, offset, file: it is a library's name }. */
  *versions() {
    for (const s of this.sections.filter((s) => s.type === VERNEED || s.type === VERDEF)) {
      const need = s.type === VERNEED;
      for (let at = s.at; ; ) {
        const b = this.bytes;
        if (need) yield { name: this.text(b.readUInt32LE(at + 4)), offset: b.readUInt32LE(at + 4), file: true };
        const count = b.readUInt16LE(at + (need ? 2 : 6));
        let aux = at + b.readUInt32LE(at + (need ? 8 : 12));
        for (let i = 0; i < count; i++) {
          const offset = b.readUInt32LE(aux + (need ? 8 : 0));
          yield { name: this.text(offset), offset, file: false };
          aux += b.readUInt32LE(aux + (need ? 12 : 4));
        }
        const next = b.readUInt32LE(at + (need ? 12 : 16));
        if (!next) break;
        at += next;
      }
    }
  }

  *#uses() {
    yield* this.symbols();
    yield* this.#names(NEEDED, SONAME, RPATH, RUNPATH);
    yield* this.versions();
  }

  /**
   * Writes `to(name)`, which is as long as the name, over each name for which it gives one. Linkers let names share their ends ("compress" is the end of
   * "uncompress"), so afterwards every name is read again: one that became another than wanted is an error.
   */
  rename(to) {
    const before = [...this.#uses()];
    for (const { name, offset } of before) {
      const other = to(name);
      if (other === undefined) continue;
      if (Buffer.byteLength(other, 'latin1') !== name.length) throw new Error(`${this.file}: ${name} and ${other} differ in length`);
      this.bytes.write(other, this.strings.at + offset, 'latin1');
    }
    for (const { name, offset } of before) {
      const wanted = to(name) ?? name;
      if (this.text(offset) !== wanted) throw new Error(`${this.file}: ${name} should be ${wanted} now, and is ${this.text(offset)}`);
    }
  }

  write(file) {
    fs.writeFileSync(file, this.bytes, { mode: 0o644 });
  }
}
