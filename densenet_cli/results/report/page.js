"use strict";
const root = document.documentElement;
root.classList.add("scripted"); // without a script, all details are shown

// Colours: as set in the system, light, dark; remembered for the next visit if the browser allows it.
const themes = ["auto", "light", "dark"];
const button = document.getElementById("theme");
function show(theme) {
  button.textContent = theme;
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
}
function remembered() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}
show(themes.includes(remembered()) ? remembered() : "auto");
button.addEventListener("click", () => {
  const next = themes[(themes.indexOf(button.textContent) + 1) % themes.length];
  show(next);
  try { localStorage.setItem("theme", next); } catch { /* a page opened from a file may have no storage */ }
});

// A click on a setting shows or hides its runs and its configuration.
document.querySelectorAll(".opener").forEach((opener) => opener.addEventListener("click", () => {
  const open = document.getElementById(opener.getAttribute("aria-controls")).classList.toggle("open");
  opener.setAttribute("aria-expanded", open);
}));

// A click on a heading sorts by it: numbers as numbers, rows without a value last. A setting is a tbody.
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
