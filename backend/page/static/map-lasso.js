// A lasso around crops of the map: how many are in it, and the way to label those that nobody has labelled.
import { NONE } from "./map-data.js";

const STEP = 4; // pixels between two corners
const LEAST = 12; // pixels that a lasso is wide or high: anything smaller was a click
const CORNERS = 300;
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
    this.drawing = null; // {pointer, corners, at} of a lasso that is being drawn
    this.#listen();
  }

  // Whether a drag that begins so draws a lasso, and does not move the map; while one is drawn, nothing else does.
  takes(event) {
    if (this.drawing) return true;
    if (event.type === "wheel" || event.button || event.ctrlKey || event.touches?.length > 1) return false;
    return this.isOn() || event.shiftKey;
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
        if (event.key !== "Escape" || !(this.drawing || this.isThere || this.isOn())) return;
        event.stopPropagation(); // with nothing to take back it shows the whole map
        this.drew = Boolean(this.drawing); // the click that ends the drag opens no crop
        this.clear();
        this.#turn(false);
      },
      true,
    );
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#goOn(event));
    canvas.addEventListener("pointerup", (event) => this.#finish(event));
    for (const lost of ["pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(lost, ({ pointerId }) => pointerId === this.drawing?.pointer && this.#drop());
    }
    document.addEventListener("selectstart", (event) => this.drawing && event.preventDefault());
  }

  #begin(event) {
    this.drew = false;
    if (this.drawing) return this.#drop(); // a second finger: the map is to be moved
    if (!this.takes(event) || !this.map.points || this.map.moving) return;
    const at = [event.offsetX, event.offsetY];
    this.drawing = { pointer: event.pointerId, corners: [this.#onMap(at)], at };
    this.map.canvas.setPointerCapture(event.pointerId);
  }

  #goOn({ pointerId, buttons, offsetX, offsetY }) {
    const { drawing } = this;
    if (pointerId !== drawing?.pointer) return;
    if (!buttons) return this.#drop(); // the button was let go where nobody told of it
    if (Math.hypot(offsetX - drawing.at[0], offsetY - drawing.at[1]) < STEP) return;
    drawing.at = [offsetX, offsetY];
    drawing.corners.push(this.#onMap(drawing.at));
    this.draw();
  }

  #finish({ pointerId }) {
    if (pointerId !== this.drawing?.pointer) return;
    const { corners } = this.drawing;
    this.drawing = null;
    const size = (axis, scale) => Math.abs(scale) * (most(corners, axis) - least(corners, axis));
    const { x, y } = this.map.scale;
    if (Math.max(size(0, x), size(1, y)) < LEAST) return this.draw();
    this.drew = true;
    const every = Math.ceil(corners.length / CORNERS);
    this.corners = corners.filter((_, i) => i % every === 0);
    this.inside = within(this.corners, this.map.points);
    [this.isThere, this.counted] = [true, null];
    this.#turn(false);
    this.map.choose(-1);
    this.count();
    this.draw();
  }

  #drop() {
    this.drawing = null;
    this.draw();
  }

  #turn(on) {
    this.button.setAttribute("aria-pressed", on);
    this.map.place.classList.toggle("lassoing", on);
  }

  #onMap([x, y]) {
    const { scale, origin } = this.map;
    return [(x - origin.x) / scale.x, (y - origin.y) / scale.y];
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

  // The points have come anew. Laid out otherwise, the line fits no more, and what was inside stays selected.
  follow(before, points) {
    this.drawing = null;
    const same = before?.count === points.count && ["tasks", "x", "y"].every((key) => before[key].every((value, i) => value === points[key][i]));
    if (same || !before) return;
    const selected = new Set(this.inside.map((i) => before.tasks[i]));
    this.corners = [];
    this.inside = [];
    points.tasks.forEach((task, i) => selected.has(task) && this.inside.push(i));
  }

  // Tell how many crops are selected, and where they are labelled; again once some have been.
  count() {
    const { points, known, place } = this.map;
    this.bar.hidden = !this.isThere;
    if (this.bar.hidden || !known || this.counted === known) return;
    this.counted = known;
    const open = this.inside.filter((i) => known.label[i] === NONE);
    const some = nearest(open, points).map((i) => points.tasks[i]);
    const [line, link] = [this.bar.querySelector("span"), this.bar.querySelector("a")];
    const all = this.inside.length === 1 ? "1 crop" : `${this.inside.length.toLocaleString()} crops`;
    const words = `${all} selected, ${open.length.toLocaleString()} without a label`;
    if (line.textContent !== words) line.textContent = place.querySelector(".map-said").textContent = words;
    link.hidden = !open.length;
    link.textContent = open.length > MOST ? `Label ${MOST.toLocaleString()} of them` : "Label them";
    link.href = `${place.dataset.like.split("?")[0]}#selection=${some.join(",")}`;
  }

  draw() {
    const { scale, origin } = this.map;
    if (!scale) return;
    const corners = this.drawing?.corners ?? this.corners;
    this.shape.setAttribute("points", corners.map(([x, y]) => `${(x * scale.x + origin.x).toFixed(1)},${(y * scale.y + origin.y).toFixed(1)}`).join(" "));
  }
}

const least = (corners, axis) => Math.min(...corners.map((corner) => corner[axis]));
const most = (corners, axis) => Math.max(...corners.map((corner) => corner[axis]));

// The crops within a polygon: those that its line winds around, as the shape is filled.
function within(corners, { count, x, y }) {
  const [left, right, bottom, top] = [least(corners, 0), most(corners, 0), least(corners, 1), most(corners, 1)];
  const found = [];
  for (let i = 0; i < count; i++) {
    if (x[i] < left || x[i] > right || y[i] < bottom || y[i] > top) continue;
    let turns = 0;
    for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
      const [ax, ay] = corners[b];
      const [bx, by] = corners[a];
      if (ay > y[i] === by > y[i]) continue;
      const side = (bx - ax) * (y[i] - ay) - (x[i] - ax) * (by - ay);
      if (by > ay && side > 0) turns++;
      if (by < ay && side < 0) turns--;
    }
    if (turns) found.push(i);
  }
  return found;
}

// The crops that are handed over, those in the middle first.
function nearest(open, { x, y }) {
  const mean = (values) => open.reduce((sum, i) => sum + values[i], 0) / Math.max(1, open.length);
  const [mx, my] = [mean(x), mean(y)];
  const away = Float64Array.from(open, (i) => (x[i] - mx) ** 2 + (y[i] - my) ** 2);
  const reach = open.length > MOST ? Float64Array.from(away).sort()[MOST - 1] : Infinity;
  const kept = open.map((i, place) => [i, away[place]]).filter(([, distance]) => distance <= reach);
  return kept.sort((a, b) => a[1] - b[1]).slice(0, MOST).map(([i]) => i);
}
