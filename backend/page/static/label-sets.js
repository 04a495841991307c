// Several classes of one crop. A label is then a set, written in one line as the backend writes it, and sent as a list.
const SEPARATOR = " + "; // no class holds it

let several = document.getElementById("label")?.dataset.several === "yes";

export const setSeveral = (so) => (several = so);
export const isSeveral = () => several;

export const namesIn = (label) => (label === null ? [] : several ? label.split(SEPARATOR) : [label]);
export const inWords = (label) => namesIn(label).join(", ");
export const toSend = (labels) =>
  several ? Object.fromEntries(Object.entries(labels).map(([task, label]) => [task, namesIn(label)])) : labels;

// The set with a class, or without it if it is in there; none at all is no label.
export function toggled(label, name) {
  const names = namesIn(label);
  return joined(names.includes(name) ? names.filter((one) => one !== name) : [...names, name]);
}

const joined = (names) => (names.length ? [...names].sort().join(SEPARATOR) : null);

// A page with its labels in one line, as they are on show.
export const withLabels = (page) => page && { ...page, like: page.like && inOneLine(page.like), crops: page.crops.map(inOneLine) };

function inOneLine(crop) {
  const lists = Object.entries(crop).filter(([, value]) => Array.isArray(value));
  return { ...crop, ...Object.fromEntries(lists.map(([name, names]) => [name, joined(names)])) };
}
