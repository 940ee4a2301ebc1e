// Terminal colours of a line of text: pieces of text with class names, nothing else.  A log is hostile: no HTML here.
"use strict";
const ANSI = (() => {
  // A colour or style; any other control sequence; a title; an escape of two characters; other control characters.
  const pattern = /\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]/g;

  const strip = (line) => (/[\x00-\x08\x0b-\x1f\x7f]/.test(line) ? line.replace(pattern, "") : line);

  const apply = (style, codes) => {
    for (let i = 0; i < codes.length; i += 1) {
      const code = codes[i];
      if (code === 0) Object.assign(style, { fg: "", bold: false, dim: false, italic: false, underline: false });
      else if (code === 1) style.bold = true;
      else if (code === 2) style.dim = true;
      else if (code === 3) style.italic = true;
      else if (code === 4) style.underline = true;
      else if (code === 22) { style.bold = false; style.dim = false; }
      else if (code === 23) style.italic = false;
      else if (code === 24) style.underline = false;
      else if (code >= 30 && code <= 37) style.fg = `ansi-${code - 30}`;
      else if (code >= 90 && code <= 97) style.fg = `ansi-${code - 90 + 8}`;
      else if (code === 39) style.fg = "";
      else if (code === 38 || code === 48) {
        const kind = codes[i + 1];
        if (code === 38 && kind === 5 && codes[i + 2] < 16) style.fg = `ansi-${codes[i + 2]}`;
        i += kind === 5 ? 2 : kind === 2 ? 4 : 0;
      }
    }
  };

  const classes = (style) => [style.fg, style.bold && "ansi-bold", style.dim && "ansi-dim", style.italic && "ansi-italic", style.underline && "ansi-underline"].filter(Boolean).join(" ");

  // [[text, class names], ...]
  const parse = (line) => {
    const pieces = [];
    const style = { fg: "" };
    let from = 0;
    for (const match of line.matchAll(pattern)) {
      if (match.index > from) pieces.push([line.slice(from, match.index), classes(style)]);
      from = match.index + match[0].length;
      if (match[1] !== undefined) apply(style, match[1].split(/[;:]/).map(Number));
    }
    if (from < line.length) pieces.push([line.slice(from), classes(style)]);
    return pieces;
  };
  return { strip, parse };
})();
