"use strict";
const root = document.documentElement;
root.classList.add("scripted"); // without a script everything stands open

// Colours: as the system has them, light, dark; kept for the next visit where the browser allows it.
const themes = ["auto", "light", "dark"];
const button = document.getElementById("theme");
function show(theme) {
  button.textContent = theme;
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
}
function kept() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}
show(themes.includes(kept()) ? kept() : "auto");
button.addEventListener("click", () => {
  const next = themes[(themes.indexOf(button.textContent) + 1) % themes.length];
  show(next);
  try { localStorage.setItem("theme", next); } catch { /* a page from a file may not keep anything */ }
});

// A setting opens to its runs and its configuration.
document.querySelectorAll(".opener").forEach((opener) => opener.addEventListener("click", () => {
  const open = document.getElementById(opener.getAttribute("aria-controls")).classList.toggle("open");
  opener.setAttribute("aria-expanded", open);
}));

// A heading sorts: numbers as numbers, rows without a value last. A setting is a tbody of two rows.
function compare(a, b) {
  if (a === "" || b === "") return 0;
  const [x, y] = [Number(a), Number(b)];
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}
function sort(table, column, direction) {
  const key = (body) => body.rows[0].cells[column].dataset.key;
  const bodies = [...table.tBodies].sort((a, b) =>
    (key(a) === "") - (key(b) === "") || direction * compare(key(a), key(b)));
  table.append(...bodies);
}
document.querySelectorAll(".sortable").forEach((table) => {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const descending = heading.ariaSort === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sort(table, column, descending ? -1 : 1);
  }));
});
