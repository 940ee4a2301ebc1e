// The board: rows change in place, and nothing moves under the mouse.  New conversions wait behind a button.
"use strict";
(() => {
  const list = () => document.getElementById("board-list");
  if (!list()) return;
  let fresh = new Set();
  let newest = 0;
  const shown = () => [...document.querySelectorAll("#board-rows > tr")];
  const noteNewest = () => { newest = Math.max(newest, ...shown().map((row) => Number(row.dataset.id)), 0); };
  noteNewest();
  let known = newest; // nothing up to here is "new"

  async function update(ids) {
    const here = list();
    const wanted = shown().map((row) => Number(row.dataset.id)).filter((id) => ids.includes(id));
    for (const id of ids) if (id > known && !wanted.includes(id)) fresh.add(id);
    offer();
    const query = new URLSearchParams(here.dataset.here);
    query.set("ids", wanted.join(","));
    const answer = await fetch(`${here.dataset.url}?${query}`, { headers: { "hx-request": "true" } });
    if (!answer.ok || answer.redirected) return;
    const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const row of parsed.querySelector("template").content.querySelectorAll("tr")) replace(row);
    const tabs = parsed.getElementById("board-tabs");
    const old = document.getElementById("board-tabs");
    if (tabs && old && !old.contains(document.activeElement)) old.replaceWith(document.adoptNode(tabs));
  }

  function replace(row) {
    const old = document.getElementById(row.id);
    if (!old) return;
    const focused = old.contains(document.activeElement);
    // Marked text would be lost.
    if (!getSelection().isCollapsed && getSelection().containsNode(old, true)) return;
    const now = document.adoptNode(row);
    old.replaceWith(now);
    if (focused) now.querySelector("a").focus();
  }

  function offer() {
    const button = document.getElementById("board-new");
    if (!button) return;
    button.hidden = !fresh.size;
    button.firstElementChild.textContent = fresh.size === 1 ? "1 new conversion: show it" : `${fresh.size} new conversions: show them`;
  }

  document.addEventListener("click", (event) => {
    if (!event.target.closest("#board-new")) return;
    htmx.ajax("GET", list().dataset.url, { target: "#board-list", swap: "outerHTML" }).then(() => { history.pushState(null, "", list().dataset.url); });
  });
  // A new list was drawn: by a search, a sort, or the button.
  document.addEventListener("htmx:afterSettle", () => {
    fresh = new Set();
    noteNewest();
    known = newest;
    offer();
  });

  const visible = () => (document.hidden ? new Promise((done) => { document.addEventListener("visibilitychange", done, { once: true }); }) : null);
  const socket = new LiveSocket({
    url: () => "/ws/board",
    heard: async (message) => {
      if (message.t !== "changed") return;
      try {
        await visible();
        await update(message.ids);
      } catch { /* the next change or a reload shows it */ } finally {
        socket.send({ ack: 1 });
      }
    },
    indicator: document.getElementById("connection"),
    blocked: () => { setInterval(() => { if (!document.hidden) update(shown().map((row) => Number(row.dataset.id))).catch(() => {}); }, 10000); },
  });
})();
