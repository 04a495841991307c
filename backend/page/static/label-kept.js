// What a window keeps for when it is loaded again: the page on show with what was chosen on it, and the page that is not stored yet.
const KEY = `everylabel-label-page ${document.getElementById("label")?.dataset.base}`; // each project its own

export function keep(what) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(what));
  } catch {
    // Storage is forbidden: what was chosen lasts until the page is left.
  }
}

export function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null");
  } catch {
    return null;
  }
}

export function forget() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}
