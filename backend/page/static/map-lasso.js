// A lasso around crops of the map: how many are in it, and the way to label those that nobody has labelled.
import { NONE } from "./map-data.js";

const STEP = 4; // pixels between two corners
const LEAST = 12; // pixels that a lasso is wide or high: anything smaller was a click
const MOST = 2000; // crops that are handed over
const OUTLINE = "http://www.w3.org/2000/svg";

export class Lasso {
  constructor(map) {
    this.map = map;
    this.button = map.place.querySelector("button[data-lasso]");
    this.bar = map.place.querySelector(".map-selected");
    this.shape = document.createElementNS(OUTLINE, "polygon");
    map.place.querySelector(".map-lasso").append(this.shape);
    this.corners = []; // in the map's own units, so that it stays where it is while the map moves
    this.inside = [];
    this.isThere = false;
    this.#listen();
  }

  // Whether a drag that begins so draws a lasso, and does not move the map.
  takes(event) {
    return !event.button && event.type !== "wheel" && (this.isOn() || event.shiftKey);
  }

  isOn() {
    return this.button.getAttribute("aria-pressed") === "true";
  }

  #listen() {
    const { canvas, place } = this.map;
    this.button.addEventListener("click", () => this.#turn(!this.isOn()));
    this.bar.querySelector("button").addEventListener("click", () => {
      this.clear();
      canvas.focus();
    });
    place.addEventListener(
      "keydown",
      (event) => {
        if (event.key !== "Escape" || (!this.isThere && !this.isOn())) return;
        event.stopPropagation(); // with nothing to take back it shows the whole map
        this.clear();
        this.#turn(false);
      },
      true,
    );
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.takes(event) || !this.map.points) return;
      this.drawing = [[event.offsetX, event.offsetY]];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", ({ offsetX, offsetY }) => {
      const last = this.drawing?.at(-1);
      if (!last || Math.hypot(offsetX - last[0], offsetY - last[1]) < STEP) return;
      this.drawing.push([offsetX, offsetY]);
      this.#outline(this.drawing);
    });
    canvas.addEventListener("pointerup", () => this.#finish());
    canvas.addEventListener("pointercancel", () => {
      this.drawing = null;
      this.draw();
    });
  }

  #turn(on) {
    this.button.setAttribute("aria-pressed", on);
    this.map.place.classList.toggle("lassoing", on);
  }

  #finish() {
    const drawn = this.drawing;
    this.drawing = null;
    if (!drawn) return;
    const size = (axis) => Math.max(...drawn.map((p) => p[axis])) - Math.min(...drawn.map((p) => p[axis]));
    if (Math.max(size(0), size(1)) < LEAST) return this.draw();
    this.drew = true;
    const { scale, origin } = this.map;
    this.corners = drawn.map(([x, y]) => [(x - origin.x) / scale.x, (y - origin.y) / scale.y]);
    this.inside = within(this.corners, this.map.points);
    this.isThere = true;
    this.#turn(false);
    this.map.choose(-1);
    this.count();
    this.draw();
  }

  // Whether the click that the browser reports just now was the end of a lasso.
  wasDrawn() {
    const { drew } = this;
    this.drew = false;
    return drew;
  }

  clear() {
    [this.corners, this.inside, this.drawing, this.isThere] = [[], [], null, false];
    this.count();
    this.draw();
  }

  // The map is laid out anew: the line fits no more, and what was inside stays selected.
  follow(before, points) {
    const selected = new Set(this.inside.map((i) => before.tasks[i]));
    this.corners = [];
    this.inside = [];
    points.tasks.forEach((task, i) => selected.has(task) && this.inside.push(i));
  }

  // Tell how many crops are inside, and where they are labelled; again once some have been.
  count() {
    const { points, known, place } = this.map;
    this.bar.hidden = !this.isThere;
    if (this.bar.hidden || !known) return;
    const open = this.inside.filter((i) => known.label[i] === NONE);
    const some = nearest(open, points).map((i) => points.tasks[i]);
    const [line, link] = [this.bar.querySelector("span"), this.bar.querySelector("a")];
    const all = this.inside.length;
    line.textContent = `${counted(all)} inside, ${open.length.toLocaleString()} without a label`;
    link.hidden = !open.length;
    link.textContent = open.length > MOST ? `Label ${MOST.toLocaleString()} of them` : "Label them";
    link.href = `${place.dataset.like.split("?")[0]}#selection=${some.join(",")}`;
  }

  draw() {
    const { scale, origin } = this.map;
    if (this.drawing || !scale) return;
    this.#outline(this.corners.map(([x, y]) => [x * scale.x + origin.x, y * scale.y + origin.y]));
  }

  #outline(corners) {
    this.shape.setAttribute("points", corners.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
  }
}

const counted = (n) => (n === 1 ? "1 crop" : `${n.toLocaleString()} crops`);

// The crops within a polygon, by the even-odd rule.
function within(corners, { count, x, y }) {
  const [left, bottom] = [0, 1].map((axis) => Math.min(...corners.map((corner) => corner[axis])));
  const [right, top] = [0, 1].map((axis) => Math.max(...corners.map((corner) => corner[axis])));
  const found = [];
  for (let i = 0; i < count; i++) {
    if (x[i] < left || x[i] > right || y[i] < bottom || y[i] > top) continue;
    let inside = false;
    for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
      const [ax, ay] = corners[a];
      const [bx, by] = corners[b];
      if (ay > y[i] !== by > y[i] && x[i] < ((bx - ax) * (y[i] - ay)) / (by - ay) + ax) inside = !inside;
    }
    if (inside) found.push(i);
  }
  return found;
}

// The crops that are handed over, those in the middle first.
function nearest(open, { x, y }) {
  const mean = (values) => open.reduce((sum, i) => sum + values[i], 0) / Math.max(1, open.length);
  const [mx, my] = [mean(x), mean(y)];
  const away = new Map(open.map((i) => [i, (x[i] - mx) ** 2 + (y[i] - my) ** 2]));
  return [...open].sort((a, b) => away.get(a) - away.get(b)).slice(0, MOST);
}
