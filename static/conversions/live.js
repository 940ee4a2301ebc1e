// The page of a conversion: state and log from one socket, or by asking every two seconds where sockets are blocked.
"use strict";
(() => {
  const page = document.getElementById("conversion");
  if (!page) return;
  const by = (id) => document.getElementById(id);
  const log = new LogView();
  const isLatest = page.dataset.latest === "yes";
  const HISTORY = 16 * 1024 * 1024; // of a longer log only the end is loaded, unless a line before it is named
  const name = page.dataset.name;
  let attempt = Number(page.dataset.attempt);
  let offset = 0; // how far in the log we are: bytes of the file
  let acked = 0;
  let state = JSON.parse(by("state").textContent);
  let clock = state.now * 1000 - Date.now(); // the server's clock is ahead by so much
  let lastOutput = state.last_output || state.started || 0;
  let socket = null;

  // --- state ---

  const key = (s) => [s.attempt, s.state, s.phase, s.waiting_for, s.warnings, s.errors, s.files].join("|");
  const active = () => state.state === "running" || state.state === "cancelling";

  function took(next) {
    const before = state;
    state = next;
    clock = state.now * 1000 - Date.now();
    lastOutput = Math.max(lastOutput, state.last_output || 0, active() ? state.started || 0 : 0);
    if (isLatest) {
      numbers();
      if (key(before) !== key(state)) announce(before);
      refresh();
    }
    head();
  }

  function numbers() {
    const progress = state.progress;
    const area = by("progress");
    if (!area) return;
    area.hidden = !progress.words;
    by("sentence").textContent = state.sentence;
    by("progress-words").textContent = progress.words;
    const bar = by("bar");
    bar.hidden = progress.percent === null;
    if (progress.percent !== null) bar.value = progress.percent;
    bar.setAttribute("aria-valuetext", progress.words);
    const list = by("disks");
    if (!list) return;
    for (const disk of progress.disks) {
      const row = list.querySelector(`[data-disk="${Number(disk.disk)}"]`) || list.appendChild(diskRow(disk));
      const one = row.querySelector("progress");
      if (disk.bytes_total) { one.max = disk.bytes_total; one.value = disk.bytes_done || 0; }
      row.querySelector(".live-disk__words").textContent = disk.words;
    }
  }

  function diskRow(disk) {
    const row = document.createElement("li");
    row.dataset.disk = Number(disk.disk);
    const title = document.createElement("span");
    title.textContent = `Disk ${Number(disk.disk)}`;
    const bar = document.createElement("progress");
    bar.className = "live-bar";
    bar.setAttribute("aria-label", `Copied of disk ${Number(disk.disk)}`);
    const words = document.createElement("span");
    words.className = "live-disk__words";
    row.append(title, bar, words);
    return row;
  }

  // A screen reader hears of a new phase or state, not of every number.
  function announce(before) {
    if (before.state !== state.state || before.phase !== state.phase) by("announce").textContent = state.sentence;
    // "It is on its way" is not true any more.
    if (before.state !== state.state && state.ended) for (const alert of document.querySelectorAll("#messages .pf-m-success, #messages .pf-m-info")) alert.remove();
  }

  // What is more than a number is drawn by the server.
  let refreshing = false;
  async function refresh() {
    const area = by("live");
    const dialog = by("cancel-dialog");
    if (refreshing || area.dataset.key === key(state) || (dialog && dialog.open)) return;
    refreshing = true;
    const asked = key(state);
    const toggled = [...area.querySelectorAll("details[id]")].filter((d) => d.dataset.open ? d.open !== (d.dataset.open === "yes") : d.open).map((d) => [d.id, d.open, d.dataset.open]);
    try {
      await htmx.ajax("GET", location.pathname, { target: "#live", swap: "outerHTML" });
      for (const [id, open, usual] of toggled) {
        const details = by(id);
        // What somebody opened or closed stays so, unless the step itself moved on.
        if (details && details.dataset.open === usual) details.open = open;
      }
      numbers();
      if (asked !== by("live").dataset.key) by("live").dataset.key = asked;
    } finally {
      refreshing = false;
    }
    if (key(state) !== asked) setTimeout(refresh, 200);
  }

  // --- title and favicon ---

  const COLOURS = { queued: "#6a6e73", running: "#0066cc", cancelling: "#ca6c0f", succeeded: "#3d7317", failed: "#b1380b", cancelled: "#6a6e73", lost: "#5e40be" };
  const WORDS = { queued: "Waiting", cancelling: "Stopping", succeeded: "Done", failed: "Failed", cancelled: "Cancelled", lost: "Lost" };
  let drawn = "";
  function head() {
    const percent = state.progress.percent;
    const front = state.state === "running" ? (percent === null ? "" : `${percent} %`) : WORDS[state.state];
    document.title = `${front ? `${front} · ` : ""}${name} – v2vweb`;
    const look = `${state.state}|${percent}`;
    if (look === drawn) return;
    drawn = look;
    const colour = COLOURS[state.state] || COLOURS.queued;
    const around = 2 * Math.PI * 12;
    const part = state.state === "running" ? around * (percent === null ? 0.25 : percent / 100) : around;
    const mark = { succeeded: "M10 16l4 4 8-8", failed: "M11 11l10 10M21 11L11 21", lost: "M11 11l10 10M21 11L11 21", cancelled: "M10 16h12" }[state.state] || "";
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none" stroke-width="5"><circle cx="16" cy="16" r="12" stroke="#c7c7c7"/><circle cx="16" cy="16" r="12" stroke="${colour}" stroke-dasharray="${part} ${around}" transform="rotate(-90 16 16)"/><path d="${mark}" stroke="${colour}" stroke-width="3.5"/></g></svg>`;
    by("favicon").href = `data:image/svg+xml,${encodeURIComponent(svg)}`;
  }

  // --- time that goes on ---

  function words(seconds) {
    const unit = (n, text) => `${n} ${text}${n === 1 ? "" : "s"}`;
    seconds = Math.max(0, Math.floor(seconds));
    if (seconds < 60) return unit(seconds, "second");
    const minutes = Math.floor(seconds / 60);
    if (minutes < 10 && seconds % 60 >= 5) return `${unit(minutes, "minute")} ${unit(seconds % 60, "second")}`;
    if (minutes < 60) return unit(minutes, "minute");
    const hours = Math.floor(minutes / 60);
    if (hours < 24) return unit(hours, "hour") + (minutes % 60 ? ` ${unit(minutes % 60, "minute")}` : "");
    return unit(Math.floor(hours / 24), "day") + (hours % 24 ? ` ${unit(hours % 24, "hour")}` : "");
  }

  function tick() {
    if (!isLatest || !active()) return;
    const now = (Date.now() + clock) / 1000;
    for (const area of by("live").querySelectorAll("[data-since]")) area.textContent = words(now - Number(area.dataset.since));
    const stall = by("stall");
    if (!stall) return;
    const silent = now - lastOutput;
    stall.hidden = !lastOutput || silent < 60 || state.state !== "running";
    if (stall.hidden) return;
    const long = silent > state.quiet;
    stall.classList.toggle("pf-m-info", !long);
    stall.classList.toggle("pf-m-warning", long);
    by("stall-text").textContent = `No output for ${words(silent)}. ` + (long
      ? "That is longer than usual for this step: have a look at the log, and ask your administrator if it goes on."
      : `This step is usually quiet for up to ${words(state.quiet)}.`);
  }
  setInterval(tick, 1000);

  // --- log ---

  function tookLog(piece) {
    if (piece.attempt !== attempt || piece.from !== offset) return false;
    offset = piece.to;
    // A frame of the socket was written just now; an answer over HTTP says when.
    if (piece.data) lastOutput = Math.max(lastOutput, piece.modified || (Date.now() + clock) / 1000);
    log.append(piece.data);
    return true;
  }

  function startAgain(number) {
    attempt = number;
    page.dataset.attempt = number;
    by("log-raw").href = `${page.dataset.log}?attempt=${number}`;
    offset = acked = 0;
    lastOutput = 0;
    log.clear(1);
  }

  async function ask(from) {
    const answer = await fetch(`${page.dataset.log}?attempt=${attempt}&offset=${from}`, { headers: { accept: "application/json" } });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    return answer.json();
  }

  // The log until now comes over HTTP: quicker, and also where sockets are blocked.
  async function loadHistory(from) {
    let piece = await ask(from);
    log.clear(piece.line || 1);
    offset = piece.from;
    by("log-note").textContent = piece.from ? `The beginning of this long log is not shown here. It is in the downloaded log.` : "";
    for (;;) {
      tookLog(piece);
      if (isLatest) took(piece.state);
      if (piece.eof || piece.to === piece.from || piece.size - piece.to < 65536) break;
      piece = await ask(offset);
    }
    acked = offset;
    if (!log.named() && log.range && log.range[0] < log.first) { await loadHistory(0); return; }
    if (!log.range) log.toEnd();
    if (!log.count) by("log-note").textContent = state.state === "queued" ? "The log begins when the conversion starts." : "Nothing was written yet.";
  }
  log.wantsAll = () => loadHistory(0);

  function acknowledge() {
    if (acked === offset || !socket) return;
    acked = offset;
    socket.send({ ack: offset });
  }
  setInterval(acknowledge, 1000);

  function heard(message) {
    if (message.t === "state") took(message);
    else if (message.t === "attempt") startAgain(message.attempt);
    else if (message.t === "log") {
      if (!tookLog(message)) { socket.again(); return; } // cannot be; if it is, from where we are
      if (by("log-note").textContent && log.first === 1) by("log-note").textContent = "";
      // Not for every frame: the server waits for no answer before 256 KiB.
      if (offset - acked >= 65536) acknowledge();
    }
  }

  let polling = 0;
  function poll() {
    if (polling) return;
    socket.polling = true;
    polling = setInterval(async () => {
      if (socket.socket && socket.socket.readyState === WebSocket.OPEN) { clearInterval(polling); polling = 0; socket.polling = false; return; }
      if (document.hidden) return;
      try {
        const piece = await ask(offset);
        took(piece.state);
        if (piece.state.attempt !== attempt) startAgain(piece.state.attempt);
        else tookLog(piece);
      } catch { /* the indicator says that nothing comes */ }
    }, 2000);
  }

  async function start() {
    head();
    try {
      await loadHistory(/^#L\d/.test(location.hash) ? 0 : -HISTORY);
    } catch (error) {
      by("log-note").textContent = "The log could not be loaded. Reload the page to try again.";
    }
    if (!isLatest) return;
    socket = new LiveSocket({
      url: () => { acked = offset; return `${page.dataset.socket}?offset=${offset}&attempt=${attempt}`; },
      heard,
      indicator: by("connection"),
      blocked: poll,
    });
  }

  // --- dialogs ---

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog]");
    if (opener && by(opener.dataset.dialog)) { event.preventDefault(); by(opener.dataset.dialog).showModal(); }
    const closer = event.target.closest("dialog [data-close]");
    if (closer) { closer.closest("dialog").close(); refresh(); }
  });

  start();
})();
