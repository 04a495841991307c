// How long the page on show has been in sight: one that nobody sees is not being looked at.
let since = 0;
let before = 0; // seconds that the page was in sight until the window was last hidden

const sinceThen = () => (performance.now() - since) / 1000;

export function startOver() {
  before = 0;
  since = performance.now();
}

export const secondsInSight = () => before + (document.hidden ? 0 : sinceThen());

document.addEventListener("visibilitychange", () => {
  if (document.hidden) before += sinceThen();
  since = performance.now();
});
