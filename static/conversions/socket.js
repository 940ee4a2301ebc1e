// A web socket that comes back by itself and says in words how it is.  The server's rules: conversions/consumers.py.
"use strict";
const NOT_LOGGED_IN = 4401;
const NOT_ALLOWED = 4403;

class LiveSocket {
  // url() is asked at each attempt: it carries how far we are.  heard(message) gets what the server sends.
  constructor({ url, heard, indicator, blocked }) {
    Object.assign(this, { url, heard, indicator, blocked });
    this.failures = 0;
    this.last = null; // when we last heard anything
    this.over = false;
    this.timer = 0;
    window.addEventListener("online", () => this.now());
    window.addEventListener("offline", () => { this.say(); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.now(); });
    // A computer that slept has a socket that looks open and is dead: a clock that jumped tells.
    let tick = Date.now();
    setInterval(() => {
      const now = Date.now();
      if (now - tick > 30000) this.again();
      tick = now;
      this.say();
    }, 1000);
    // Leaving the page is no failure to be shown.
    window.addEventListener("pagehide", () => { this.leaving = true; });
    window.addEventListener("pageshow", (event) => { if (event.persisted) { this.leaving = false; this.again(); } });
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.due = 0;
    const at = (location.protocol === "https:" ? "wss://" : "ws://") + location.host + this.url();
    let socket;
    try { socket = new WebSocket(at); } catch { this.failed(); return; }
    this.socket = socket;
    socket.onopen = () => { this.opened = true; this.failures = 0; this.last = Date.now(); this.say(); };
    socket.onmessage = (event) => {
      if (this.socket !== socket) return;
      this.last = Date.now();
      this.heard(JSON.parse(event.data));
    };
    socket.onclose = (event) => { if (this.socket === socket) this.closed(event.code); };
  }

  closed(code) {
    this.socket = null;
    if (code === NOT_LOGGED_IN || code === NOT_ALLOWED) {
      this.over = true;
      this.tell(code === NOT_LOGGED_IN ? "You were logged out. Reload the page to log in again."
        : "You may no longer see this. Reload the page.", "off");
      return;
    }
    this.failed();
  }

  failed() {
    this.failures += 1;
    if (!this.opened && this.failures >= 3 && this.blocked) this.blocked();
    // Full jitter: after a restart of the server not everybody comes at the same moment.
    const wait = 500 + Math.random() * Math.min(29500, 1000 * 2 ** Math.min(this.failures, 5));
    this.due = Date.now() + wait;
    this.timer = setTimeout(() => this.connect(), wait);
    this.say();
  }

  // Now, unless it is there or on its way.
  now() {
    if (!this.over && !this.socket) this.connect();
  }

  again() {
    if (this.over) return;
    const old = this.socket;
    this.socket = null;
    if (old) old.close();
    this.connect();
  }

  send(value) {
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(value));
  }

  say() {
    if (this.over || this.leaving) return;
    const since = this.last ? ` Showing what was known at ${new Date(this.last).toLocaleTimeString()}.` : "";
    if (this.socket && this.socket.readyState === WebSocket.OPEN) this.tell("Live", "live");
    else if (!navigator.onLine) this.tell(`Offline: this computer has no network.${since}`, "off");
    else if (this.polling) this.tell("Live, every 2 seconds", "live");
    else if (this.due) this.tell(`Not connected; trying again in ${Math.max(1, Math.ceil((this.due - Date.now()) / 1000))} s.${since}`, "off");
    else if (this.failures) this.tell(`Connecting again.${since}`, "off");
  }

  tell(text, kind) {
    const area = this.indicator;
    if (!area) return;
    area.hidden = false;
    area.dataset.kind = kind;
    // The countdown is for the eyes: a screen reader hears of a change of kind, not of each second.
    if (area.dataset.said !== kind) { area.setAttribute("aria-live", "polite"); area.dataset.said = kind; } else area.setAttribute("aria-live", "off");
    if (area.textContent !== text) area.textContent = text;
  }
}
