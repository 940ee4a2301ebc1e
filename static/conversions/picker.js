// Ticks in the wizard's file list and lines of its text field are one thing; browsing on keeps both.
"use strict";
(() => {
  const field = () => document.querySelector("#step [name=paths], #step [name=path]");
  const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

  const tick = () => {
    const chosen = field();
    if (!chosen) return;
    const paths = lines(chosen.value);
    for (const box of document.querySelectorAll("#files [name=pick]")) box.checked = paths.includes(box.value);
  };

  document.addEventListener("change", (event) => {
    const box = event.target;
    if (!box.matches("#files [name=pick]")) return;
    const chosen = field();
    if (box.type === "radio") {
      chosen.value = box.value;
    } else {
      const paths = lines(chosen.value).filter((path) => path !== box.value);
      if (box.checked) paths.push(box.value);
      chosen.value = paths.join("\n");
    }
  });
  document.addEventListener("input", (event) => { if (event.target === field()) tick(); });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "files") return;
    tick();
    event.target.querySelector(".v2v-files")?.focus(); // the link that was followed is gone
  });
  tick();
})();
