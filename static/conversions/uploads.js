// Sends files in pieces with tus, several of them, over reloads, sleep, lost networks and restarts of the server.
"use strict";
(() => {
  const zone = document.getElementById("drop");
  if (!zone) return;
  const list = document.getElementById("sending"), form = document.getElementById("model").content;
  const input = document.getElementById("files"), expected = document.getElementById("expected");
  const CHUNK = Number(zone.dataset.chunk), AT_ONCE = 2, STALL = 60_000;
  const items = new Set();

  const token = () => (document.cookie.match(/(?:^|; )csrftoken=([^;]+)/) || [])[1] || "";
  const words = (count) => {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let value = count, unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit++; }
    return `${value >= 10 || !unit ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
  };
  const duration = (seconds) => {
    if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  };
  // crypto.randomUUID() is there over HTTPS only.
  const uuid = () => {
    const b = crypto.getRandomValues(new Uint8Array(16));
    b[6] = (b[6] & 15) | 64; b[8] = (b[8] & 63) | 128;
    const hex = [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  };
  const changed = () => document.body.dispatchEvent(new Event("uploads-changed"));

  class Item {
    constructor(file, bundle, checksum) {
      this.file = file; this.bundle = bundle; this.checksum = checksum;
      // Of several files of one machine the .ovf stands for it.
      this.convert = document.getElementById("convert").checked && (!bundle || /\.ovf$/i.test(file.name));
      this.state = "looking"; this.sent = 0; this.samples = [];
      const row = document.importNode(form, true).firstElementChild;
      this.row = row;
      this.part = (name) => row.querySelector(`[data-part="${name}"]`);
      this.part("name").textContent = file.name;
      this.part("size").textContent = words(file.size);
      this.part("bar").setAttribute("aria-label", `Sent of ${file.name}`);
      for (const [name, act] of [["pause", () => this.pause()], ["resume", () => this.resume()], ["remove", () => this.remove()]]) {
        const button = this.part(name);
        button.addEventListener("click", act);
        button.setAttribute("aria-label", `${button.textContent.trim()} ${file.name}`);
      }
      list.append(row);
      items.add(this);
      this.look();
    }

    show(state, text) {
      this.state = state;
      this.row.dataset.state = state;
      this.part("state").textContent = text;
      const running = state === "sending" || state === "waiting" || state === "retrying";
      this.part("pause").hidden = !running;
      this.part("resume").hidden = state !== "paused" && state !== "stopped";
      // What has arrived, or was never sent, only leaves this page; what is on its way is removed from the server, too.
      const remove = this.part("remove"), word = state === "arrived" || state === "refused" ? "Hide" : "Remove";
      remove.hidden = state === "looking";
      remove.querySelector("span").textContent = word;
      remove.setAttribute("aria-label", `${word} ${this.file.name}`);
      this.part("bar").hidden = this.part("progress").hidden = state === "refused" || state === "looking";
      safe();
      next();
    }

    problem(problem, variant = "danger") {
      const box = this.part("problem");
      box.hidden = !problem;
      if (!problem) return;
      box.className = `pf-v6-c-alert pf-m-inline pf-m-${variant}`;
      this.part("problem-title").textContent = problem.title || "";
      this.part("problem-text").textContent = [problem.text, problem.action].filter(Boolean).join(" ");
    }

    async look() {
      this.show("looking", "Looking at the file");
      let answer;
      try {
        const sketch = await window.v2vSketch(this.file), data = new FormData();
        const about = { name: this.file.name, size: this.file.size, modified: String(this.file.lastModified), ranges: sketch.ranges };
        data.append("about", JSON.stringify(about));
        data.append("data", sketch.blob, "sketch");
        const response = await fetch(zone.dataset.opinion, { method: "POST", body: data, headers: { "X-CSRFToken": token() } });
        answer = await response.json();
        if (!response.ok) answer = {};
      } catch (error) {
        if (error.name === "NotReadableError" || error.name === "NotFoundError") {
          this.problem({ title: "Your browser cannot read this file", text: "It was moved or changed after it was chosen, or it is on a drive that is gone.", action: "Choose it again." });
          return this.show("refused", "Not sent");
        }
        answer = {};  // the server is away: sending will try again and again
      }
      const verdict = answer.verdict || {};
      this.part("summary").textContent = answer.summary || "";
      this.concerns(verdict.concerns || []);
      const here = answer.again;
      if (here && here.state !== "receiving") {
        this.arrived(here.page);
        return;
      }
      if (answer.problem && !here) {
        this.problem(answer.problem);
        return this.show("refused", "Not sent: nothing was transferred");
      }
      if (here) { this.url = here.url; this.sent = here.offset; this.bundle = here.bundle || this.bundle; }
      this.show("waiting", here ? `Goes on at ${words(here.offset)}` : "Waits for its turn");
    }

    concerns(concerns) {
      const box = this.part("concerns");
      box.hidden = !concerns.length;
      box.querySelector("ul").replaceChildren(...concerns.map((concern) => {
        const line = document.createElement("li");
        line.textContent = `${concern.text} ${concern.action || ""}`.trim();
        return line;
      }));
    }

    start() {
      this.show("sending", "Sending");
      this.samples = [];
      const metadata = { filename: this.file.name, modified: String(this.file.lastModified) };
      if (this.checksum) metadata.checksum = this.checksum;
      if (this.bundle) metadata.bundle = this.bundle;
      if (this.convert) metadata.convert = "yes";
      this.upload = new tus.Upload(this.file, {
        endpoint: zone.dataset.endpoint,
        uploadUrl: this.url || null,
        chunkSize: CHUNK,
        retryDelays: [300, 1000, 2000, 5000, ...Array(10_000).fill(10_000)],
        removeFingerprintOnSuccess: true,
        metadata,
        onBeforeRequest: (request) => request.setHeader("X-CSRFToken", token()),
        onShouldRetry: (error) => this.again(error),
        onUploadUrlAvailable: () => { this.url = this.upload.url; changed(); },
        onProgress: (sent) => this.progress(sent),
        onError: (error) => this.failed(error),
        onSuccess: () => { changed(); this.arrived(this.url.replace(/\/?$/, "/")); },
      });
      this.watch();
      if (this.url) { this.upload.start(); return; }
      this.upload.findPreviousUploads().then((previous) => {
        if (previous.length) this.upload.resumeFromPreviousUpload(previous[0]);
        this.upload.start();
      });
    }

    again(error) {
      const status = error.originalResponse ? error.originalResponse.getStatus() : 0;
      const told = body(error);
      if (status === 507) {
        this.problem(told, "warning");
        this.show("retrying", "Paused: it goes on by itself as soon as the server has space");
        return Boolean(this.url);  // a new one that does not fit is refused
      }
      if (status === 423) { this.show("retrying", "Another page is sending this file; waits for it"); return true; }
      if (status >= 400 && status < 500 && status !== 409) return false;
      this.show("retrying", status ? "The server has a problem; tries again" : "No connection to the server; tries again");
      return true;
    }

    progress(sent) {
      this.sent = sent;
      this.moved = performance.now();
      if (this.state === "retrying") { this.problem(null); this.show("sending", "Sending"); }
      this.samples.push([this.moved, sent]);
      while (this.samples.length > 2 && this.moved - this.samples[0][0] > 30_000) this.samples.shift();
      if (this.moved - (this.painted || 0) < 250 && sent < this.file.size) return;
      this.painted = this.moved;
      this.paint();
    }

    paint() {
      const bar = this.part("bar");
      bar.max = this.file.size; bar.value = this.sent;
      const rate = (since) => {
        const first = this.samples.find(([at]) => at >= this.moved - since), last = this.samples.at(-1);
        return first && last && last[0] - first[0] > 900 ? Math.max(0, (last[1] - first[1]) / (last[0] - first[0]) * 1000) : 0;
      };
      const now = rate(5000), lately = rate(30_000);
      let text = `${words(this.sent)} of ${words(this.file.size)} (${Math.floor(this.sent / this.file.size * 100)} %)`;
      if (now) text += `, ${words(now)} a second`;
      if (now && lately) {
        const left = [now, lately].map((value) => (this.file.size - this.sent) / value).sort((a, b) => a - b).map(duration);
        text += left[0] === left[1] ? `, ${left[0]} left` : `, ${left[0]} to ${left[1]} left`;
      }
      this.part("progress").textContent = text;
    }

    // A connection can die without telling, after sleep or in another network: the browser would wait for ever.
    watch() {
      clearInterval(this.timer);
      this.moved = performance.now();
      this.timer = setInterval(() => {
        if (this.state !== "sending") return;
        if (performance.now() - this.moved < STALL) return;
        this.moved = performance.now();
        this.show("retrying", "No answer for a minute; tries again");
        this.upload.abort().then(() => this.start());
      }, 5000);
    }

    failed(error) {
      clearInterval(this.timer);
      const status = error.originalResponse ? error.originalResponse.getStatus() : 0;
      const told = body(error);
      changed();
      if (status === 401) {
        this.problem({ title: "Please log in again", text: "Your session is over. Nothing that was sent is lost.", action: "Log in in another tab, then press “Go on” here." }, "warning");
        return this.show("stopped", "Waits for you");
      }
      if (status === 404 || status === 410) this.url = null;
      if (status === 0 && error.message && !error.originalRequest) {
        this.problem({ title: "Your browser cannot read this file any more", text: "It was moved or changed, or its drive is gone.", action: "Choose it again; what was sent is kept." });
        return this.show("stopped", "Stopped");
      }
      this.problem(told || { title: "The server did not take the file", text: `It answered with ${status}.`, action: "Press “Go on”; if that does not help, tell your administrator." });
      this.show([413, 422, 410].includes(status) ? "refused" : "stopped", [413, 422, 410].includes(status) ? "Refused" : "Stopped");
    }

    arrived(page) {
      clearInterval(this.timer);
      this.problem(null);
      this.sent = this.file.size;
      this.samples = [];
      this.moved = 0;
      this.paint();
      this.show("arrived", "All of it is on the server. You may close this page.");
      const link = this.part("link");
      link.href = page;
      link.hidden = false;
      changed();
    }

    // The server reads behind an upload, and may find at the end what nobody could see before.
    refusedAfterwards(row) {
      this.problem({ title: row.dataset.refused, text: row.dataset.why });
      this.show("refused", "Refused");
      this.part("link").querySelector("span").textContent = "See why";
    }

    async pause() {
      if (this.upload) await this.upload.abort();
      this.samples = [];
      this.paint();
      this.show("paused", "Paused by you");
    }

    resume() { this.problem(null); this.show("waiting", "Waits for its turn"); }

    async remove() {
      if (this.upload) await this.upload.abort();
      clearInterval(this.timer);
      if (this.url && this.state !== "arrived") {
        await fetch(this.url, { method: "DELETE", headers: { "X-CSRFToken": token(), "Tus-Resumable": "1.0.0" } }).catch(() => {});
        const previous = await this.upload?.findPreviousUploads() || [];
        for (const one of previous) if (one.urlStorageKey) localStorage.removeItem(one.urlStorageKey);
      }
      items.delete(this);
      this.row.remove();
      changed(); safe(); next();
      (list.querySelector("button:not([hidden])") || input).focus();
    }
  }

  const body = (error) => {
    try { return JSON.parse(error.originalResponse.getBody()).error; } catch { return null; }
  };
  const next = () => {
    let free = AT_ONCE - [...items].filter((item) => item.state === "sending" || item.state === "retrying").length;
    for (const item of items) if (item.state === "waiting" && free-- > 0) item.start();
  };
  const moving = () => [...items].some((item) => ["looking", "waiting", "sending", "retrying"].includes(item.state));
  const unfinished = () => moving() || [...items].some((item) => ["paused", "stopped"].includes(item.state));

  // Said truthfully: a page that is closed sends nothing; what has arrived stays.
  const note = document.getElementById("safe");
  let lock = null;
  const safe = () => {
    note.hidden = [...items].every((item) => item.state === "refused");
    const later = "open this page again, here or in another browser, and choose the same file. It goes on where it stopped.";
    note.querySelector("[data-part=text]").textContent = moving()
      ? `Keep this page open while it sends. If it is closed, or this computer sleeps, nothing that was sent is lost: ${later}`
      : unfinished() ? `Nothing is being sent at the moment. What was sent is kept: press “Go on”, or ${later}`
      : "You may close this page. Everything that you sent is on the server.";
    note.classList.toggle("pf-m-info", unfinished());
    note.classList.toggle("pf-m-success", !unfinished());
    wake();
  };
  const wake = async () => {
    const sending = [...items].some((item) => item.state === "sending");
    try {
      if (sending && !lock && navigator.wakeLock && document.visibilityState === "visible") {
        lock = await navigator.wakeLock.request("screen");
        lock.addEventListener("release", () => { lock = null; });
      } else if (!sending && lock) await lock.release();
    } catch { lock = null; }  // only a comfort
  };
  document.body.addEventListener("htmx:afterSettle", () => {
    const refused = new Map([...document.querySelectorAll("#upload-list tr[data-refused]")].map((row) => [row.querySelector("a").href, row]));
    for (const item of items) {
      const row = item.state === "arrived" && refused.get(item.part("link").href);
      if (row) item.refusedAfterwards(row);
    }
  });
  window.addEventListener("beforeunload", (event) => { if (unfinished()) event.preventDefault(); });
  window.addEventListener("online", () => {
    for (const item of items) if (item.state === "retrying") item.upload.abort().then(() => item.start());
  });

  const take = (files) => {
    files = [...files];
    const ovf = files.filter((file) => /\.ovf$/i.test(file.name));
    // An .ovf and the files beside it are one machine.
    const bundle = ovf.length === 1 && files.length > 1 ? uuid() : null;
    const checksum = files.length === 1 ? expected.value.trim() : "";
    for (const file of files) {
      if ([...items].some((item) => item.file.name === file.name && item.file.size === file.size && item.state !== "refused")) continue;
      new Item(file, bundle && !/\.(ova|zip|t?gz)$/i.test(file.name) ? bundle : null, checksum);
    }
    input.value = "";
    expected.value = "";
  };
  input.addEventListener("change", () => take(input.files));
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => { event.preventDefault(); zone.classList.add("upload-drop--over"); });
  }
  for (const name of ["dragleave", "drop"]) zone.addEventListener(name, () => zone.classList.remove("upload-drop--over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
  // A file dropped beside the zone would make the browser leave the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
})();
