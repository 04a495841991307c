// The list of all classes for one crop: by click, by key, or by typing a part of the name.
import { currentCrop, give, goOn, hideZoom, keyOfClass } from "./label-grid.js";

const dialog = document.getElementById("chooser");
const find = document.getElementById("chooser-find");
const list = dialog?.querySelector("ul");

let classes = [];
let moreLike = () => {};

export const setClasses = (names) => (classes = names);
export const onMoreLike = (asked) => (moreLike = asked);
export const isChoosing = () => Boolean(dialog?.open);

export function openChooser() {
  const crop = currentCrop();
  if (!crop) return;
  hideZoom();
  document.getElementById("chooser-title").textContent = `Task ${crop.task}`;
  find.value = "";
  renew();
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
  button.addEventListener("click", () => choose(label));
  const entry = document.createElement("li");
  entry.append(button);
  return entry;
}

function choose(label) {
  dialog.close();
  give(label);
  goOn();
}

find?.addEventListener("input", renew);
find?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  list.querySelector("button")?.click();
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
