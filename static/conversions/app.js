// What every page needs: menus that close, copy buttons, forms that are sent once, and words when a request fails.
"use strict";
(() => {
  const closeMenus = (but) => {
    for (const menu of document.querySelectorAll("details[data-menu][open]")) if (menu !== but) menu.open = false;
  };
  document.addEventListener("click", (event) => {
    closeMenus(event.target.closest("details[data-menu]"));
    const copy = event.target.closest("[data-copy]");
    if (copy) copyText(copy);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details[data-menu][open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // <button data-copy="id of the element whose text is copied">: says so, in words, for a moment.
  async function copyText(button) {
    const text = document.getElementById(button.dataset.copy).textContent.trim();
    const label = button.querySelector("[data-copy-label]") || button;
    const before = label.textContent;
    try {
      await navigator.clipboard.writeText(text);
      label.textContent = "Copied";
    } catch {
      // Without HTTPS a browser keeps the clipboard to itself: mark the text, so that Ctrl+C does it.
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      label.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { label.textContent = before; }, 3000);
  }

  // A form is sent once: the second click of a double click does nothing.  The server is safe without this.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post" || form.hasAttribute("hx-post")) return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button[data-busy]")) {
      button.classList.add("pf-m-progress", "pf-m-in-progress");
      const label = button.querySelector(".pf-v6-c-button__text");
      if (label) label.textContent = button.dataset.busy;
    }
  });
  // Back to a page the browser kept: the form may be sent again.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  // htmx does not show what the server answers with an error; say something rather than nothing.
  const tell = (text, link) => {
    const area = document.getElementById("messages");
    if (!area || area.dataset.told === text && area.childElementCount) return; // asked for again and again: said once
    area.dataset.told = text;
    const alert = document.createElement("div");
    alert.className = "pf-v6-c-alert pf-m-danger pf-m-inline";
    const title = document.createElement("p");
    title.className = "pf-v6-c-alert__title";
    title.textContent = text;
    alert.append(title);
    if (link) {
      const words = document.createElement("div");
      words.className = "pf-v6-c-alert__description";
      words.append(link);
      alert.append(words);
    }
    area.replaceChildren(alert);
  };
  const LOGGED_OUT = "You were logged out. What is on this page stays as it is until you leave it.";
  document.addEventListener("htmx:afterRequest", (event) => { // logged in again, in another tab
    const area = document.getElementById("messages");
    if (event.detail.successful && area && area.dataset.told === LOGGED_OUT) { area.replaceChildren(); delete area.dataset.told; }
  });
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 401) {
      const link = document.createElement("a");
      link.href = `/login/?next=${encodeURIComponent(location.pathname + location.search)}`;
      link.textContent = "Log in again";
      tell(LOGGED_OUT, link);
      return;
    }
    tell(status === 403 ? "Your role does not allow this. Reload the page and try again."
      : status === 404 ? "This is not there any more. Reload the page."
        : "The server could not do this. Try again; if it stays, tell your administrator the time it happened.");
  });
  document.addEventListener("htmx:sendError", () => {
    tell("The server cannot be reached. Check your network; nothing you have typed is lost as long as this page stays open.");
  });
})();
