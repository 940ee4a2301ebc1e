// A click on "Line 12" of a mistake puts the cursor there.
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-line]");
  const text = document.getElementById("manifest-text");
  if (!link || !text) return;
  event.preventDefault();
  const lines = text.value.split("\n");
  const number = Math.min(Number(link.dataset.line), lines.length);
  const start = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
  text.focus();
  text.setSelectionRange(start, start + lines[number - 1].length);
  text.scrollTop = (text.scrollHeight / lines.length) * Math.max(0, number - 5);
});
