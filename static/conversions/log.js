// The log viewer: lines in blocks of 1000.  A block far from the eye is one piece of text; one that is near is drawn line by
// line, with numbers, colours and what was searched for.  Everything goes through textContent: a log is hostile.
"use strict";
class LogView {
  static BLOCK = 1000;
  static LONGEST = 10000; // characters of a line that are shown
  static PROBLEM = /(?:^|[\s:])(error|warning|fatal):/i;

  // "warning", "error" or nothing
  static problemOf(line) {
    const match = LogView.PROBLEM.exec(ANSI.strip(line));
    return match && (match[1].toLowerCase() === "warning" ? "warning" : "error");
  }

  constructor() {
    const by = (id) => document.getElementById(id);
    this.scroller = by("log-scroll");
    this.area = by("log-lines");
    this.jump = by("log-jump");
    this.note = by("log-note");
    this.listeners = {};
    this.range = null; // [first, last] line that the address names
    this.search = "";
    this.found = []; // numbers of the lines that match
    this.current = 0; // line last jumped to
    this.following = this.setting("follow", "yes") === "yes";
    this.near = new IntersectionObserver((entries) => this.seen(entries), { root: this.scroller, rootMargin: "600px 0px" });
    this.clear(1);
    by("log-tools").hidden = false;
    this.controls(by);
  }

  setting(name, otherwise) {
    try { return localStorage.getItem(`v2vweb-log-${name}`) || otherwise; } catch { return otherwise; }
  }

  keep(name, value) {
    try { localStorage.setItem(`v2vweb-log-${name}`, value); } catch { /* private mode */ }
  }

  // --- lines ---

  clear(first) {
    this.near.disconnect();
    this.area.replaceChildren();
    this.blocks = [];
    this.first = first; // number of the first line we have
    this.count = 0;
    this.unfinished = false;
    this.unseen = 0;
    this.found = [];
    this.note.textContent = "";
    this.told();
  }

  get last() { return this.first + this.count - 1; }

  line(number) {
    const block = this.blocks[Math.floor((number - this.first) / LogView.BLOCK)];
    return block && block.lines[number - block.first];
  }

  // Text as the server sends it: lines with their ends, and perhaps the beginning of one more.
  append(text) {
    if (!text) return;
    const before = this.count;
    const touched = new Map(); // block -> its first line that is new
    let from = 0;
    while (from < text.length) {
      let to = text.indexOf("\n", from);
      const ended = to >= 0;
      if (!ended) to = text.length;
      this.put(text.slice(from, to), ended, touched);
      from = to + 1;
    }
    for (const [block, line] of touched) this.drawn(block, line);
    if (this.search) this.look(before ? this.first + before - 1 : this.first);
    if (!this.following) { this.unseen += this.count - before; this.told(); } else this.toEnd();
    this.areas();
  }

  put(text, ended, touched) {
    let block = this.blocks[this.blocks.length - 1];
    if (this.unfinished) {
      const at = block.lines.length - 1;
      block.lines[at] = this.joined(block.lines[at], text);
      if (!touched.has(block)) touched.set(block, at);
    } else {
      if (!block || block.lines.length >= LogView.BLOCK) block = this.addBlock();
      if (!touched.has(block)) touched.set(block, block.lines.length);
      block.lines.push(this.joined("", text));
      this.count += 1;
    }
    this.unfinished = !ended;
    if (ended) {
      const at = block.lines.length - 1;
      if (block.lines[at].endsWith("\r")) block.lines[at] = block.lines[at].slice(0, -1);
    }
  }

  // A carriage return replaces what the line was (progress bars); one at the end waits for what comes.
  joined(old, text) {
    if (!text) return old;
    if (old.endsWith("\r") && text !== "\r") old = "";
    const body = text.endsWith("\r") ? text.slice(0, -1) : text;
    const back = body.lastIndexOf("\r");
    const line = back >= 0 ? text.slice(back + 1) : old + text;
    if (line.length <= LogView.LONGEST + 100) return line;
    return `${line.slice(0, LogView.LONGEST)} … (a very long line: the rest is in the downloaded log)`;
  }

  addBlock() {
    const element = document.createElement("pre");
    element.className = "log-block";
    const block = { first: this.first + this.count, lines: [], element, lively: false };
    element.block = block;
    this.blocks.push(block);
    this.area.append(element);
    this.near.observe(element);
    return block;
  }

  // The lines of a block from `line` on are new or changed.
  drawn(block, line) {
    if (block.lively) {
      while (block.element.childNodes.length > line) block.element.lastChild.remove();
      const part = document.createDocumentFragment();
      for (let at = line; at < block.lines.length; at += 1) part.append(this.row(block, at));
      block.element.append(part);
    } else block.element.textContent = `${block.lines.map(ANSI.strip).join("\n")}\n`;
    block.element.style.containIntrinsicSize = `auto 1px auto ${(block.lines.length * 1.5).toFixed(1)}em`;
  }

  seen(entries) {
    for (const entry of entries) {
      const block = entry.target.block;
      if (!block || block.lively === entry.isIntersecting) continue;
      // Somebody marks text in it: leave it as it is.
      if (!entry.isIntersecting && getSelection().containsNode(entry.target, true) && !getSelection().isCollapsed) continue;
      this.redraw(block, entry.isIntersecting);
    }
  }

  redraw(block, lively) {
    block.lively = lively;
    block.element.replaceChildren();
    this.drawn(block, 0);
  }

  row(block, at) {
    const number = block.first + at;
    const row = document.createElement("span");
    row.className = "log-line";
    row.id = `L${number}`;
    const problem = LogView.problemOf(block.lines[at]);
    if (problem) row.classList.add(`log-line--${problem}`);
    if (this.range && number >= this.range[0] && number <= this.range[1]) row.classList.add("log-line--named");
    if (number === this.current) row.classList.add("log-line--current");
    const link = document.createElement("a");
    link.className = "log-number";
    link.href = `#L${number}`;
    link.tabIndex = -1;
    link.dataset.number = number; // drawn by CSS: it must not be in what is marked and copied
    link.setAttribute("aria-label", `Line ${number}`);
    row.append(link);
    for (const [text, classes] of ANSI.parse(block.lines[at])) this.piece(row, text, classes);
    row.append("\n");
    return row;
  }

  piece(row, text, classes) {
    let into = row;
    if (classes) {
      into = document.createElement("span");
      into.className = classes;
      row.append(into);
    }
    if (!this.search) { into.append(text); return; }
    const lower = text.toLowerCase();
    let from = 0;
    for (let at = lower.indexOf(this.search); at >= 0 && lower.length === text.length; at = lower.indexOf(this.search, from)) {
      into.append(text.slice(from, at));
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, at + this.search.length);
      into.append(mark);
      from = at + this.search.length;
    }
    into.append(text.slice(from));
  }

  repaint() {
    for (const block of this.blocks) if (block.lively) this.redraw(block, true);
  }

  // --- where we are ---

  toEnd() {
    this.following = true;
    this.unseen = 0;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.top = this.scroller.scrollTop;
    this.told();
  }

  told() {
    this.jump.hidden = this.following || !this.blocks.length;
    const words = this.unseen === 1 ? "1 new line – jump to end" : `${this.unseen} new lines – jump to end`;
    document.getElementById("log-jump-text").textContent = this.unseen ? words : "Jump to end";
    document.getElementById("log-follow").checked = this.following;
  }

  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const atEnd = scrollHeight - scrollTop - clientHeight < 24;
    if (atEnd && !this.following && scrollTop > (this.top || 0)) { this.following = true; this.unseen = 0; this.told(); }
    else if (!atEnd && this.following && scrollTop < (this.top || 0) - 4) { this.following = false; this.told(); }
    this.top = scrollTop;
  }

  show(number) {
    const block = this.blocks[Math.floor((number - this.first) / LogView.BLOCK)];
    if (!block || number < this.first || number > this.last) return false;
    this.following = false;
    const old = this.area.querySelector(".log-line--current");
    if (old) old.classList.remove("log-line--current");
    this.current = number;
    if (!block.lively) this.redraw(block, true);
    const row = block.element.childNodes[number - block.first];
    row.classList.add("log-line--current");
    row.scrollIntoView({ block: "center" });
    // Blocks on the way had a guessed height: once they are drawn, the line is brought back to the middle.
    requestAnimationFrame(() => { row.scrollIntoView({ block: "center" }); this.top = this.scroller.scrollTop; });
    this.told();
    return true;
  }

  // #L12 or #L10-20; returns whether the address names lines that we have
  named() {
    const match = /^#L(\d{1,9})(?:-L?(\d{1,9}))?$/.exec(location.hash);
    const before = this.range;
    this.range = match ? [Number(match[1]), Number(match[2] || match[1])].sort((a, b) => a - b) : null;
    if (before || this.range) this.repaint();
    document.getElementById("log-link").hidden = !this.range;
    return this.range ? this.show(this.range[0]) : false;
  }

  clicked(event) {
    const link = event.target.closest(".log-number");
    if (!link) return;
    event.preventDefault();
    const number = Number(link.dataset.number);
    const from = event.shiftKey && this.range ? this.range[0] : number;
    const [first, last] = [Math.min(from, number), Math.max(from, number)];
    history.replaceState(null, "", first === last ? `#L${first}` : `#L${first}-${last}`);
    this.range = [first, last];
    this.following = false;
    this.told();
    this.repaint();
    document.getElementById("log-link").hidden = false;
  }

  // --- search ---

  find(text) {
    this.search = text.toLowerCase();
    this.found = [];
    this.times = 0;
    this.repaint();
    if (this.search) this.look(this.first);
    this.areas();
  }

  // Looks at the lines from a number on; again at the last one, which may have been unfinished.
  look(from) {
    while (this.found.length && this.found[this.found.length - 1] >= from) this.found.pop();
    for (let number = from; number <= this.last; number += 1) {
      if (ANSI.strip(this.line(number)).toLowerCase().includes(this.search)) this.found.push(number);
    }
  }

  step(direction) {
    if (!this.found.length) return;
    const here = this.current;
    const next = direction > 0 ? this.found.find((n) => n > here) : this.found.findLast((n) => n < here);
    this.show(next ?? this.found[direction > 0 ? 0 : this.found.length - 1]);
    this.areas();
  }

  areas() {
    const count = document.getElementById("log-count");
    const at = this.found.indexOf(this.current);
    const words = !this.search ? "" : !this.found.length ? "Nothing found"
      : `${at >= 0 ? `${at + 1} of ` : ""}${this.found.length} ${this.found.length === 1 ? "line" : "lines"}`;
    if (count.textContent !== words) count.textContent = words;
    for (const id of ["log-previous", "log-next"]) document.getElementById(id).disabled = !this.found.length;
  }

  problem() {
    for (let step = 1; step <= this.count; step += 1) {
      const number = this.first + ((Math.max(this.current, this.first - 1) - this.first + step + this.count) % this.count);
      if (LogView.problemOf(this.line(number))) { this.show(number); return; }
    }
    document.getElementById("log-count").textContent = "No warnings or errors in the log";
  }

  // --- controls ---

  controls(by) {
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.scroller.addEventListener("keydown", (event) => {
      if (event.key === "End") { event.preventDefault(); this.toEnd(); }
      if (event.key === "Home") { this.following = false; this.told(); }
    });
    this.area.addEventListener("click", (event) => this.clicked(event));
    this.jump.addEventListener("click", () => { this.toEnd(); this.scroller.focus(); });
    by("log-follow").addEventListener("change", (event) => {
      this.keep("follow", event.target.checked ? "yes" : "no");
      if (event.target.checked) this.toEnd();
      else { this.following = false; this.told(); }
    });
    const wrap = by("log-wrap");
    // On a phone most lines are wider than the screen.
    wrap.checked = this.setting("wrap", matchMedia("(max-width: 48rem)").matches ? "yes" : "no") === "yes";
    const wrapped = () => this.area.classList.toggle("log-lines--wrap", wrap.checked);
    wrap.addEventListener("change", () => { this.keep("wrap", wrap.checked ? "yes" : "no"); wrapped(); if (this.following) this.toEnd(); });
    wrapped();
    let waiting = 0;
    by("log-search").addEventListener("input", (event) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.find(event.target.value), 150);
    });
    by("log-search").addEventListener("keydown", (event) => {
      if (event.key === "Enter") { event.preventDefault(); this.step(event.shiftKey ? -1 : 1); }
    });
    by("log-next").addEventListener("click", () => this.step(1));
    by("log-previous").addEventListener("click", () => this.step(-1));
    by("log-problem").addEventListener("click", () => this.problem());
    by("log-link").addEventListener("click", (event) => this.copy(event.currentTarget));
    window.addEventListener("hashchange", () => { if (!this.named() && this.range && this.range[0] < this.first) this.wantsAll(); });
    this.told();
  }

  async copy(button) {
    const label = button.querySelector(".pf-v6-c-button__text");
    const address = new URL(location.href);
    address.searchParams.set("attempt", document.getElementById("conversion").dataset.attempt);
    try { await navigator.clipboard.writeText(address.href); label.textContent = "Copied"; }
    catch { label.textContent = "Copy it from the address bar"; }
    setTimeout(() => { label.textContent = "Copy link to line"; }, 3000);
  }
}
