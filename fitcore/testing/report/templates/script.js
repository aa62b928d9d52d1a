"use strict";
const filters = document.getElementById("filters");
const claims = [...document.querySelectorAll(".claim")];
const texts = new WeakMap();

function textOf(claim) {
  if (!texts.has(claim)) {
    texts.set(claim, `${claim.textContent} ${claim.id}`.toLowerCase());
  }
  return texts.get(claim);
}

function applyFilters() {
  const { search, sort, ...fields } = Object.fromEntries(new FormData(filters));
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = Object.entries(fields).filter(([, value]) => value);
  const active = words.length > 0 || wanted.length > 0;
  for (const claim of claims) {
    claim.hidden = !(wanted.every(([field, value]) => claim.dataset[field] === value)
      && words.every((word) => textOf(claim).includes(word)));
  }
  for (const part of document.querySelectorAll(".document, .unclaimed-list")) {
    part.hidden = !part.querySelector(".claim:not([hidden])");
  }
  for (const columns of document.querySelectorAll(".columns")) {
    columns.hidden = !columns.nextElementSibling.querySelector(".claim:not([hidden])");
  }
  for (const list of document.querySelectorAll(".unclaimed-list")) {
    list.open = active && !list.hidden;
  }
  const shown = claims.filter((claim) => !claim.hidden).length;
  filters.querySelector("output").textContent = active ? `${shown} of ${claims.length} statements` : "";
}

function applyOrder() {
  const by = filters.elements.sort.value;
  for (const list of document.querySelectorAll(".claims")) {
    const order = [...list.children].sort((a, b) => (
      (by && Number(b.dataset[by]) - Number(a.dataset[by])) || claims.indexOf(a) - claims.indexOf(b)
    ));
    list.append(...order);
  }
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const claim = target?.closest(".claim");
  if (!claim) return;
  if (claim.hidden) {
    filters.reset();
    applyFilters();
  }
  for (let details = target.closest("details"); details; details = details.parentElement.closest("details")) {
    details.open = true;
  }
  target.scrollIntoView();
}

filters.hidden = false;
filters.addEventListener("input", (event) => (event.target.name === "sort" ? applyOrder() : applyFilters()));
filters.addEventListener("submit", (event) => event.preventDefault());
// The fields are cleared only after the event.
filters.addEventListener("reset", () => setTimeout(() => { applyFilters(); applyOrder(); }));
addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.closest("input, select")) {
    event.preventDefault();
    filters.elements.search.focus();
  } else if (event.key === "Escape" && event.target.closest("#filters")) {
    filters.reset();
  }
});
addEventListener("hashchange", reveal);
reveal();

for (const link of document.querySelectorAll("[data-filter]")) {
  link.addEventListener("click", () => {
    filters.reset();
    filters.elements[link.dataset.filter].value = link.dataset.value;
    applyFilters();
  });
}

for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const command = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } catch {
      getSelection().selectAllChildren(command);
    }
  });
}

const root = document.documentElement;
const themeButton = document.getElementById("theme");
const darkSystem = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return (root.dataset.theme ?? (darkSystem.matches ? "dark" : "light")) === "dark";
}

function labelTheme() {
  themeButton.textContent = isDark() ? "Light theme" : "Dark theme";
}

themeButton.hidden = false;
themeButton.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  labelTheme();
});
darkSystem.addEventListener("change", labelTheme);
labelTheme();
