// The galleries' tabs, by the ARIA pattern: arrow keys move between tabs, Tab leaves for the panel. And the buttons
// that show the rest of a shortened list. What a person opened outlives every refresh: `data-own` names the attributes.
const STEP = { ArrowLeft: -1, ArrowRight: 1 };

function select(tab) {
  for (const other of tab.parentElement.querySelectorAll("[role=tab]")) {
    const chosen = other === tab;
    other.setAttribute("aria-selected", String(chosen));
    other.tabIndex = chosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
  }
}

document.addEventListener("click", ({ target }) => {
  const tab = target.closest("[role=tab]");
  if (tab) select(tab);
  const button = target.closest("button[data-shows]");
  if (!button) return;
  const list = document.getElementById(button.dataset.shows);
  const open = list.toggleAttribute("data-open");
  button.setAttribute("aria-expanded", String(open));
});

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest("[role=tab]");
  if (!tab || event.ctrlKey || event.metaKey || event.altKey) return;
  const tabs = [...tab.parentElement.querySelectorAll("[role=tab]")];
  const last = tabs.length - 1;
  const at = tabs.indexOf(tab);
  const next =
    event.key === "Home" ? 0
    : event.key === "End" ? last
    : event.key in STEP ? (at + STEP[event.key] + tabs.length) % tabs.length
    : null;
  if (next === null) return;
  event.preventDefault();
  select(tabs[next]);
  tabs[next].focus();
});
