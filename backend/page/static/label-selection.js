// Crops that somebody has selected on the map: the address brings them, and this window keeps them.
const KEY = `everylabel-label-selection ${document.getElementById("label")?.dataset.base}`; // each project its own
const MOST = 2000;

export const SELECTION = "selection";

// Asked for once, and not again when the page is loaded again; the kind of page, or null.
export function takeSelection() {
  const found = /^#selection=([\d,]+)$/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", location.pathname);
  tasks = numbers(found[1]);
  try {
    sessionStorage.setItem(KEY, tasks.join(","));
  } catch {
    // Storage is forbidden: they are lost when the page is loaded again.
  }
  return SELECTION;
}

let tasks = null;

export function forgetSelection() {
  tasks = [];
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}

export function selectedTasks() {
  if (tasks) return tasks;
  try {
    tasks = numbers(sessionStorage.getItem(KEY));
  } catch {
    tasks = [];
  }
  return tasks;
}

const numbers = (text) => (text ?? "").split(",").filter((task) => /^[1-9]\d{0,14}$/.test(task)).slice(0, MOST).map(Number);

// The body of the request for a page of a kind.
export function wanted(value) {
  const [kind, ...name] = value.split(":");
  if (kind === "like") return { kind, like: Number(name[0]) };
  if (kind === "words") return { kind, words: name.join(":") };
  if (kind === SELECTION) return { kind, selected: selectedTasks() };
  return { kind, class_name: name.length ? name.join(":") : null };
}
