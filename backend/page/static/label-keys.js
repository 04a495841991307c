// The classes below the crops, each with its key. Where a crop may have several, those of the current one are pressed.
import { choose, currentCrop, currentLabel, onCurrent } from "./label-grid.js";
import { inWords, isSeveral, namesIn } from "./label-sets.js";

const list = document.getElementById("key-list");
const said = document.getElementById("set-said");

let shown = null;

// A button that stays the same stays in focus.
export function showKeys(names, keys) {
  const wanted = JSON.stringify([names, keys, isSeveral()]);
  if (wanted !== shown) list.replaceChildren(...names.map((name) => keyButton(name, keys[name])));
  shown = wanted;
  press();
}

function keyButton(name, key) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
  if (key) button.prepend(Object.assign(document.createElement("kbd"), { textContent: key }));
  button.dataset.name = name;
  button.addEventListener("click", ({ detail }) => {
    choose(name);
    // Enter confirms the page after a click of the mouse, too: it would press the button in focus again.
    if (isSeveral() && detail) currentCrop()?.element.focus({ preventScroll: true });
  });
  return button;
}

function press() {
  if (!isSeveral()) return;
  const names = namesIn(currentLabel());
  for (const button of list.children) button.setAttribute("aria-pressed", names.includes(button.dataset.name));
}

// A screen reader is told of a set when it has changed: the crop in focus stays the same.
onCurrent((changed) => {
  press();
  const crop = currentCrop();
  if (isSeveral() && changed) said.textContent = crop.label === null ? "left out" : inWords(crop.label);
});
