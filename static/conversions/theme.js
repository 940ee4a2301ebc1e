// Light, dark or as the computer has it: read from this browser's storage and set before the first paint.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const choice = () => {
    try { return localStorage.getItem("v2vweb-theme") || "system"; } catch { return "system"; }
  };
  const apply = () => {
    const chosen = choice();
    const isDark = chosen === "dark" || (chosen === "system" && dark.matches);
    document.documentElement.classList.toggle("pf-v6-theme-dark", isDark);
    for (const button of document.querySelectorAll("[data-theme]")) {
      button.setAttribute("aria-pressed", String(button.dataset.theme === chosen));
      button.classList.toggle("pf-m-clicked", button.dataset.theme === chosen);
    }
  };
  apply();
  dark.addEventListener("change", apply);
  window.addEventListener("storage", apply); // another tab changed it
  document.addEventListener("DOMContentLoaded", () => {
    for (const group of document.querySelectorAll("[data-theme-choice]")) group.hidden = false;
    apply();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme]");
    if (!button) return;
    try { localStorage.setItem("v2vweb-theme", button.dataset.theme); } catch { /* private mode: for this page only */ }
    apply();
  });
})();
