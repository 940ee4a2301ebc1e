// The parts of a file that tell what it is, read before a byte is sent: the headers of a tar, its .ovf and .mf; the table
// of a zip; the beginning of anything else.  The server puts them into an empty file of the same size and looks at that,
// so nothing is judged here, and a sketch that is wrong does no harm.
"use strict";
(() => {
  const KIB = 1024, MIB = KIB * KIB;
  const TEXTS = /\.(ovf|mf)$/i;
  const bytes = async (file, first, length) =>
    new Uint8Array(await file.slice(first, Math.min(file.size, first + length)).arrayBuffer());
  const ascii = (view) => new TextDecoder("latin1").decode(view);

  class Sketch {
    constructor(file) { this.file = file; this.ranges = []; }
    add(first, length) {
      const end = Math.min(this.file.size, first + length);
      if (end <= first) return;
      const last = this.ranges.at(-1);
      if (last && last[0] + last[1] === first) last[1] += end - first;
      else this.ranges.push([first, end - first]);
    }
    get blob() { return new Blob(this.ranges.map(([first, length]) => this.file.slice(first, first + length))); }
  }

  const tarNumber = (field) => {
    if (field[0] & 0x80) return field.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0);
    return parseInt(ascii(field).replace(/[\0 ].*$/, "").trim() || "0", 8) || 0;
  };

  async function tar(sketch, file) {
    let position = 0, zeros = 0, size = null, name = "";
    for (let count = 0; count < 2500 && position < file.size; count++) {
      const header = await bytes(file, position, 512);
      sketch.add(position, 512);
      position += 512;
      if (header.length < 512) return;
      if (header.every((byte) => byte === 0)) {
        if (++zeros === 2) return;
        continue;
      }
      zeros = 0;
      const type = ascii(header.subarray(156, 157));
      let length = tarNumber(header.subarray(124, 136));
      if ("xgLK".includes(type)) {
        if (length > 64 * KIB) return;
        const text = ascii(await bytes(file, position, length));
        sketch.add(position, Math.ceil(length / 512) * 512);
        if (type === "L") name = text.replace(/\0.*$/, "");
        const pax = type === "x" && text.match(/ size=(\d+)\n/);
        if (pax) size = Number(pax[1]);
        const path = type === "x" && text.match(/ path=([^\n]*)\n/);
        if (path) name = path[1];
      } else {
        if (size !== null) length = size;
        if (TEXTS.test(name || ascii(header.subarray(0, 100)).replace(/\0.*$/, "")) && length <= 4 * MIB) sketch.add(position, Math.ceil(length / 512) * 512);
        size = null;
        name = "";
      }
      position += Math.ceil(length / 512) * 512;
    }
    // A header's place may lie behind the end: then the server sees that the file is cut off.
  }

  async function zip(sketch, file) {
    const start = Math.max(0, file.size - 66 * KIB);
    const tail = await bytes(file, start, 66 * KIB);
    const at = ascii(tail).lastIndexOf("PK\x05\x06");
    if (at < 0) return;
    const end = new DataView(tail.buffer, at);
    const length = end.getUint32(12, true), first = end.getUint32(16, true);
    if (length > 4 * MIB || first === 0xffffffff) return;
    const table = await bytes(file, first, length), view = new DataView(table.buffer), wanted = [];
    for (let p = 0; p + 46 <= table.length && view.getUint32(p, true) === 0x02014b50;) {
      const packed = view.getUint32(p + 20, true), local = view.getUint32(p + 42, true);
      const nameLength = view.getUint16(p + 28, true);
      const name = ascii(table.subarray(p + 46, p + 46 + nameLength));
      if (TEXTS.test(name)) {
        if (local === 0xffffffff || packed > 4 * MIB) return;
        const head = new DataView((await bytes(file, local, 30)).buffer);
        wanted.push([local, 30 + head.getUint16(26, true) + head.getUint16(28, true) + packed]);
      }
      p += 46 + nameLength + view.getUint16(p + 30, true) + view.getUint16(p + 32, true);
    }
    for (const [from, count] of wanted) sketch.add(from, count);
    sketch.add(first, file.size - first);
  }

  window.v2vSketch = async (file) => {
    const sketch = new Sketch(file), head = await bytes(file, 0, 512);
    try {
      if (head[0] === 0x1f && head[1] === 0x8b) sketch.add(0, 8 * MIB);
      else if (ascii(head.subarray(0, 4)) === "PK\x03\x04") { sketch.add(0, 512); await zip(sketch, file); }
      else if (ascii(head.subarray(257, 262)) === "ustar") await tar(sketch, file);
      else { sketch.add(0, MIB); sketch.add(Math.max(MIB, file.size - 512), 512); }
    } catch (error) {
      if (error.name === "NotReadableError" || error.name === "NotFoundError") throw error;  // the file is gone
    }
    return sketch;
  };
})();
