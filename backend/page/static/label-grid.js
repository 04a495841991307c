// The grid of crops: which class each has, which one is current, and how it is seen large.
import { findPictures } from "./pictures.js";
import { inWords, isSeveral, namesIn, toggled } from "./label-sets.js";

const ZOOM_AFTER = 450; // milliseconds of pointing at a crop

const grid = document.getElementById("grid");
const zoom = document.getElementById("zoom");

let crops = []; // {task, label, preset, leftOut, element}
let last = null; // the class given last: what the rest of the page may be given too
let current = 0;
let keyOf = {};
let changed = () => {};
let tellCurrent = () => {};
let timer;
let pointer = {};

export const onChange = (told) => (changed = told);
// Told which crop is the current one, and with `true` that it has another label.
export const onCurrent = (told) => (tellCurrent = told);
export const setKeys = (keys) => (keyOf = keys);
// What a person has chosen on the page: the label of each task that has one, and the tasks left out.
export const chosen = () => ({
  labels: Object.fromEntries(crops.filter((crop) => crop.label !== null).map((crop) => [crop.task, crop.label])),
  leftOut: crops.filter((crop) => crop.leftOut).map(({ task }) => task),
});
export const currentCrop = () => crops[current];
// The current crop's label; of a suspect one, the one to review until that is decided.
export const currentLabel = () => {
  const crop = crops[current];
  return crop?.label ?? (crop && isOpen(crop) ? crop.given : null) ?? null;
};
export const isEmpty = () => !crops.length;
export const openTasks = () => crops.filter(isOpen).map(({ task }) => task);
const isOpen = (crop) => crop.element.dataset.state === "open";

// Show a page; `before` is what was chosen on it before it was loaded again.
// Until a class is given on it, `first` is what the rest may be given.
export function showPage(page, before, first = null) {
  hideZoom();
  last = first;
  crops = (page?.crops ?? []).map((crop) => ({
    ...crop,
    preset: crop.label,
    label: before ? (before.labels[crop.task] ?? null) : crop.label,
    leftOut: before ? before.leftOut.includes(crop.task) : false,
  }));
  grid.replaceChildren(...crops.map(cell));
  grid.classList.toggle("of-texts", crops.some((crop) => crop.text));
  crops.forEach(renew);
  findPictures();
  if (crops.length) focus(0, true);
  else tellCurrent(false);
}

function cell(crop, at) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "cell";
  button.dataset.task = crop.task;
  button.tabIndex = -1;
  if (crop.text) {
    button.append(Object.assign(document.createElement("span"), { className: "words", textContent: crop.text }));
  } else {
    const image = Object.assign(document.createElement("img"), { alt: "", decoding: "async" });
    image.dataset.picture = crop.picture;
    button.append(image);
  }
  button.append(Object.assign(document.createElement("span"), { className: "given" }));
  button.addEventListener("pointermove", ({ pointerType, screenX, screenY }) => {
    // A browser tells of a move, too, where the page was scrolled under a pointer at rest.
    const moved = screenX !== pointer.x || screenY !== pointer.y;
    pointer = { x: screenX, y: screenY };
    if (pointerType === "touch" || !moved) return;
    if (current !== at || document.activeElement !== button) focus(at, true);
  });
  button.addEventListener("pointerenter", ({ pointerType }) => {
    if (pointerType === "touch") return;
    clearTimeout(timer);
    timer = setTimeout(() => current === at && showZoom(), ZOOM_AFTER);
  });
  button.addEventListener("pointerleave", hideZoom);
  button.addEventListener("focus", () => mark(at));
  crop.element = button;
  return button;
}

function mark(at) {
  if (crops[current]) crops[current].element.tabIndex = -1;
  current = at;
  crops[at].element.tabIndex = 0;
  tellCurrent(false);
}

export function focus(at, preventScroll = false) {
  mark(at);
  crops[at].element.focus({ preventScroll });
}

// What a crop is said to be, in sight and to a screen reader.
function renew(crop, at) {
  const { element, label, leftOut } = crop;
  const isReview = crop.given !== null && crop.given !== undefined;
  const open = isReview ? (crop.suggested === null ? crop.given : `${crop.given} → ${crop.suggested}?`) : "no class";
  const kept = isReview && label === crop.given ? ", kept" : "";
  const shown = label === null ? (leftOut ? "left out" : open) : label + kept;
  const state = label === null ? (leftOut ? "left-out" : "open") : label === crop.preset ? "" : "changed";
  element.dataset.state = state;
  const given = element.querySelector(".given");
  given.textContent = shown;
  given.title = isSeveral() ? shown : "";
  given.style.setProperty("-webkit-line-clamp", isSeveral() && isReview ? "none" : ""); // a suggestion is never cut
  const suggested = isReview && crop.suggested !== null ? `, suggested ${inWords(crop.suggested)}` : "";
  const said =
    state === "open" && isReview ? `given ${inWords(crop.given)}${suggested}`
    : label === null ? shown
    : inWords(label) + kept;
  element.setAttribute("aria-label", `Crop ${at + 1} of ${crops.length}, task ${crop.task}: ${said}`);
}

// A class was chosen for the current crop: it has it from now on, or, where it may have several, has it or has it no more.
// Then it is the next one's turn, where there is one class a crop.
export function choose(name, goesOn = true) {
  const crop = crops[current];
  if (!crop) return;
  if (isSeveral()) return give(toggled(currentLabel(), name));
  give(name);
  if (goesOn) goOn();
}

// Give the current crop a label; null leaves it out.
export function give(label) {
  const crop = crops[current];
  if (!crop) return;
  crop.label = label;
  crop.leftOut = label === null;
  last = label ?? last;
  renew(crop, current);
  changed();
  tellCurrent(true);
}

// Of a suspect label: keep it, or take the one suggested instead.
export const keepLabel = () => reviewed("given");
export const takeSuggested = () => reviewed("suggested");

function reviewed(which) {
  const label = crops[current]?.[which];
  if (label === null || label === undefined) return;
  give(label);
  goOn();
}

// Give every crop without a class the class that was given last; of several classes a crop, those of the current one.
export function giveRest() {
  const label = (isSeveral() ? crops[current]?.label : null) ?? last;
  if (label === null) return;
  for (const [at, crop] of crops.entries()) {
    if (!isOpen(crop)) continue;
    crop.label = label;
    renew(crop, at);
  }
  changed();
  tellCurrent(false);
}

// Go on to the next crop without a class, where the page gives none.
export function goOn() {
  const next = crops.findIndex((crop, at) => at > current && isOpen(crop));
  if (next >= 0) focus(next);
}

// The crops whose class is not among these any more lose it; of several classes, all of them: what is left was never meant.
export function keepClasses(classes) {
  const isGone = (label) => namesIn(label ?? null).some((name) => !classes.includes(name));
  for (const [at, crop] of crops.entries()) {
    if (isSeveral() && isGone(crop.given)) crop.given = null; // the keys would begin with it
    if (!isGone(crop.label)) continue;
    crop.label = null;
    renew(crop, at);
  }
  changed();
  tellCurrent(false);
}

function columns() {
  const top = crops[0].element.offsetTop;
  const wide = crops.findIndex((crop) => crop.element.offsetTop > top);
  return wide < 0 ? crops.length : wide;
}

export function step(key) {
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() }[key];
  const to = key === "Home" ? 0 : key === "End" ? crops.length - 1 : current + by;
  hideZoom();
  if (to >= 0 && to < crops.length) focus(to);
}

// --- large

export function showZoom() {
  const crop = crops[current];
  if (!crop) return;
  const image = zoom.querySelector("img");
  image.hidden = Boolean(crop.text);
  zoom.querySelector(".words").textContent = crop.text ?? "";
  if (!crop.text) image.src = crop.picture;
  const { left, width } = crop.element.getBoundingClientRect();
  zoom.classList.toggle("on-the-left", left + width / 2 > innerWidth / 2);
  zoom.hidden = false;
}

export function hideZoom() {
  clearTimeout(timer);
  zoom.hidden = true;
}

export const toggleZoom = () => (zoom.hidden ? showZoom() : hideZoom());

export const keyOfClass = (name) => keyOf[name];
