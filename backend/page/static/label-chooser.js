// The list of all classes for one crop: by click, by key, or by typing a part of the name.
// Where a crop may have several classes it stays open, and each choice gives or takes one.
import { choose as chooseClass, currentCrop, currentLabel, give, goOn, hideZoom, keyOfClass } from "./label-grid.js";
import { inWords, isSeveral, namesIn } from "./label-sets.js";

const dialog = document.getElementById("chooser");
const find = document.getElementById("chooser-find");
const list = dialog?.querySelector("ul");
const title = document.getElementById("chooser-title");

let classes = [];
let moreLike = () => {};

export const setClasses = (names) => (classes = names);
export const onMoreLike = (asked) => (moreLike = asked);
export const isChoosing = () => Boolean(dialog?.open);

export function openChooser() {
  const crop = currentCrop();
  if (!crop) return;
  hideZoom();
  document.getElementById("chooser-close").textContent = isSeveral() ? "Done" : "Cancel";
  find.value = "";
  renew();
  say();
  dialog.showModal();
  find.focus();
}

function renew() {
  const wanted = find.value.trim().toLowerCase();
  const found = classes.filter((name) => name.toLowerCase().includes(wanted));
  list.replaceChildren(...found.map((name) => item(name, name, keyOfClass(name))), item("Leave it out", null, "Backspace"));
}

function item(text, label, key) {
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  if (key) button.append(" ", Object.assign(document.createElement("kbd"), { textContent: key }));
  button.dataset.name = label ?? "";
  button.addEventListener("click", ({ detail }) => {
    choose(label);
    if (dialog.open && detail) lookAnew(); // after a click of the mouse Enter would press the button again
  });
  const entry = document.createElement("li");
  entry.append(button);
  return entry;
}

function choose(label) {
  if (isSeveral() && label !== null) {
    chooseClass(label);
    return say();
  }
  dialog.close();
  give(label);
  goOn();
}

// What the crop has, where it may have several.
function say() {
  const { task } = currentCrop();
  const label = currentLabel();
  const names = namesIn(label);
  title.textContent = isSeveral() && label !== null ? `Task ${task}: ${inWords(label)}` : `Task ${task}`;
  if (!isSeveral()) return;
  title.setAttribute("aria-live", "polite");
  for (const button of list.querySelectorAll("button")) {
    if (button.dataset.name) button.setAttribute("aria-pressed", names.includes(button.dataset.name));
  }
}

function chooseFirst() {
  if (!isSeveral()) return list.querySelector("button")?.click();
  if (!find.value.trim()) return dialog.close();
  const first = list.querySelector("button");
  if (!first.dataset.name) return; // no class is called so
  first.click();
  lookAnew();
}

function lookAnew() {
  find.value = "";
  renew();
  say();
  find.focus();
}

find?.addEventListener("input", () => (renew(), say()));
find?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  chooseFirst();
});
dialog?.addEventListener("click", ({ target }) => {
  if (target === dialog) dialog.close(); // beside it
});
dialog?.addEventListener("close", () => currentCrop()?.element.focus());
document.getElementById("chooser-like")?.addEventListener("click", () => {
  dialog.close();
  moreLike();
});
document.getElementById("chooser-close")?.addEventListener("click", () => dialog.close());
