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
  const { search, ...fields } = Object.fromEntries(new FormData(filters));
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
filters.addEventListener("input", applyFilters);
filters.addEventListener("submit", (event) => event.preventDefault());
// The fields are cleared only after the event.
filters.addEventListener("reset", () => setTimeout(applyFilters));
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
