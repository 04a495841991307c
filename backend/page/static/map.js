// The map of the pool: where each crop lies, what is known of it, and what a person does with it.
// Points are drawn pixel by pixel on the CPU: 100,000 of them in a few milliseconds, with no GPU anywhere.
import { KDBush, select, zoom, zoomIdentity } from "./libraries.js";
import { Painter } from "./map-painter.js";
import { drawLegend, modeColours } from "./map-colours.js";
import { MapCard } from "./map-card.js";
import { Lasso } from "./map-lasso.js";
import { fetchKnown, fetchPoints, fit, NONE, SPAN } from "./map-data.js";

const REACH = 14;
const MOVE_MS = 700;
const AGAIN_MS = 1000;

const root = document.documentElement;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
let map = null;

class PoolMap {
  constructor(place) {
    this.place = place;
    this.view = place.querySelector(".map-view");
    this.canvas = place.querySelector("canvas");
    this.painter = new Painter(this.canvas);
    this.card = new MapCard(place);
    this.transform = zoomIdentity;
    this.points = null;
    this.known = null;
    this.queued = [];
    this.chosen = -1;
    this.highlighted = -1;
    this.versions = {};
    this.waiting = false;
    this.lasso = new Lasso(this);
    this.zoom = this.#zoomBehaviour();
    select(this.canvas).call(this.zoom);
    this.#listen();
    this.resize();
  }

  // --- what is known

  async refresh() {
    const { mapVersion } = this.place.dataset;
    if (!mapVersion || this.loading) {
      if (!mapVersion) this.say("The map is drawn after the first round.");
      return;
    }
    const wanted = this.#wanted();
    if (this.versions.wanted === wanted) return this.#takeQueue();
    this.loading = true;
    try {
      const [points, known] = await Promise.all([
        this.versions.map === mapVersion ? this.points : fetchPoints(this.place.dataset.points),
        fetchKnown(this.place.dataset.colours),
      ]);
      // A round between the two answers.
      if (points.count !== known.count) return void (this.versions = {});
      if (points !== this.points) this.#takePoints(points);
      this.known = known;
      this.versions = { wanted, map: mapVersion };
      this.#takeQueue();
      this.recolour();
      if (this.chosen >= 0) this.#tell(this.chosen, false);
      if (!performance.getEntriesByName("map-painted").length) performance.mark("map-painted");
    } catch {
      this.versions = {}; // it is asked again
    } finally {
      this.loading = false;
    }
    // Refused, or changed meanwhile: on a project where nothing happens no other change would bring it.
    clearTimeout(this.again);
    if (this.versions.wanted !== this.#wanted() && this.place.isConnected) {
      this.again = setTimeout(() => this.refresh(), AGAIN_MS);
    }
  }

  #wanted() {
    const { mapVersion, coloursVersion } = this.place.dataset;
    return `${mapVersion}|${coloursVersion}`;
  }

  #takeQueue() {
    const queue = this.place.dataset.queue;
    if (this.queueSeen === `${queue}|${this.versions.map}`) return;
    this.queueSeen = `${queue}|${this.versions.map}`;
    this.queued = JSON.parse(queue).map((task) => this.points.tasks.indexOf(task)).filter((i) => i >= 0);
    this.draw();
  }

  #takePoints(points) {
    const before = this.points;
    const task = this.chosen >= 0 ? before.tasks[this.chosen] : null;
    this.points = points;
    this.chosen = task === null ? -1 : points.tasks.indexOf(task);
    this.index = null;
    this.lasso.follow(before, points);
    this.place.classList.add("drawn");
    this.say("");
    this.canvas.setAttribute("aria-label", `Map of ${points.count.toLocaleString()} crops`);
    const same = before && before.count <= points.count && before.tasks.every((id, i) => id === points.tasks[i]);
    if (same && !calm.matches) this.#glide(before);
  }

  // Laid out anew: every crop moves to its new place where all can see it go.
  #glide(before) {
    const { x, y, count } = this.points;
    const from = { x: Float32Array.from(x), y: Float32Array.from(y) };
    from.x.set(before.x);
    from.y.set(before.y);
    const now = { ...this.points, x: new Float32Array(count), y: new Float32Array(count) };
    const began = performance.now();
    const step = () => {
      const share = Math.min(1, (performance.now() - began) / MOVE_MS);
      const eased = share * share * (3 - 2 * share);
      for (let i = 0; i < count; i++) {
        now.x[i] = from.x[i] + (x[i] - from.x[i]) * eased;
        now.y[i] = from.y[i] + (y[i] - from.y[i]) * eased;
      }
      this.moving = share < 1 ? now : null;
      this.draw();
      if (share < 1) requestAnimationFrame(step);
    };
    step();
  }

  // --- how it looks

  get mode() {
    return this.place.querySelector("input[name=map-colour]:checked").value;
  }

  get classes() {
    return JSON.parse(this.place.dataset.classes);
  }

  recolour() {
    if (!this.known) return;
    const shown = modeColours(this.mode, this.known, this.classes, this.highlighted);
    this.lasso.count();
    this.painter.take(this.known.count, shown.colours, shown.order, shown.bold);
    drawLegend(this.place.querySelector(".legend"), this.mode, this.known, this.classes, this.highlighted, (code) => {
      this.highlighted = code;
      this.recolour();
    });
    this.draw();
  }

  resize() {
    this.width = this.view.clientWidth;
    this.height = this.view.clientHeight;
    this.painter.resize(this.width, this.height);
    this.zoom.extent([[0, 0], [this.width, this.height]]);
    this.zoom.translateExtent([[-this.width / 2, -this.height / 2], [this.width * 1.5, this.height * 1.5]]);
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      if (!this.points || !this.known) return;
      const { k, x, y } = this.transform;
      const fitted = fit(this.points, this.width, this.height);
      this.scale = { x: fitted.x * k, y: -fitted.y * k };
      this.origin = { x: fitted.left * k + x, y: fitted.top * k + y };
      this.painter.paint(this.moving || this.points, this.scale, this.origin, k, this.queued, this.chosen);
      this.lasso.draw();
      if (this.chosen >= 0) this.card.place(...this.at(this.chosen), this.width, this.height);
    });
  }

  at(i) {
    return [this.points.x[i] * this.scale.x + this.origin.x, this.points.y[i] * this.scale.y + this.origin.y];
  }

  // --- what a person does

  #zoomBehaviour() {
    return zoom()
      .scaleExtent([1, 200])
      .duration(calm.matches ? 0 : 200)
      .filter((event) => {
        // The page scrolls on: a wheel or one finger moves the map only once it has been asked to.
        if (this.lasso.takes(event)) return false;
        if (event.type === "wheel") return event.ctrlKey || event.metaKey || document.activeElement === this.canvas;
        if (event.type === "touchstart") return event.touches.length > 1;
        return !event.button;
      })
      .on("zoom", ({ transform }) => {
        this.transform = transform;
        this.draw();
      });
  }

  #listen() {
    const { canvas } = this;
    new ResizeObserver(() => this.resize()).observe(this.view);
    root.addEventListener("theme", () => this.recolour());
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch" && !event.buttons) this.choose(this.near(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") this.choose(-1);
    });
    canvas.addEventListener("click", (event) => {
      if (this.lasso.wasDrawn()) return;
      const found = this.near(event.offsetX, event.offsetY);
      // A finger cannot hover: its first tap shows the crop, its second opens it.
      if (event.pointerType === "touch" && found !== this.chosen) return this.choose(found);
      if (found >= 0) this.open(found, event.shiftKey);
    });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    // A window that loses the focus, to the tab that was opened, blurs its canvas too: there the crop stays chosen.
    canvas.addEventListener("blur", () => document.activeElement === canvas || this.choose(-1));
    this.place.addEventListener("change", (event) => {
      if (event.target.name !== "map-colour") return;
      this.highlighted = -1;
      this.recolour();
    });
    for (const button of this.place.querySelectorAll("button[data-zoom]")) {
      button.addEventListener("click", () => this.zoomBy(Number(button.dataset.zoom)));
    }
  }

  zoomBy(times) {
    const target = select(this.canvas);
    if (times) this.zoom.scaleBy(calm.matches ? target : target.transition().duration(200), times);
    else this.zoom.transform(target, zoomIdentity);
  }

  #key(event) {
    const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || !this.points) return;
    if (direction) this.choose(this.next(...direction), true);
    else if (event.key === "Enter" && this.chosen >= 0) this.open(this.chosen);
    else if (event.key.toLowerCase() === "m" && this.chosen >= 0) this.open(this.chosen, true);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1.6);
    else if (event.key === "-") this.zoomBy(1 / 1.6);
    else if (event.key === "0" || event.key === "Escape") this.zoomBy(0);
    else return;
    event.preventDefault();
  }

  choose(i, byKey = false) {
    if (i === this.chosen) return;
    this.chosen = i;
    this.canvas.classList.toggle("aims", i >= 0);
    if (i < 0) {
      this.card.hide();
      return this.draw();
    }
    if (byKey) this.#bringIntoView(i);
    this.#tell(i, byKey);
    this.draw();
  }

  #tell(i, aloud) {
    const { label, predicted, unsure, round } = this.known;
    this.card.show({
      task: this.points.tasks[i],
      label: label[i] === NONE ? null : this.classes[label[i]],
      predicted: predicted[i] === NONE ? null : this.classes[predicted[i]],
      confidence: 1 - (unsure[i] / 255) * (1 - Number(this.place.dataset.toss)),
      round: round[i],
      queued: this.queued.includes(i),
      aloud,
    });
  }

  #bringIntoView(i) {
    const [x, y] = this.at(i);
    const edge = 30;
    const dx = Math.min(0, this.width - edge - x) + Math.max(0, edge - x);
    const dy = Math.min(0, this.height - edge - y) + Math.max(0, edge - y);
    if (dx || dy) this.zoom.translateBy(select(this.canvas), dx / this.transform.k, dy / this.transform.k);
  }

  // In a tab of its own: here the place on the map, and all that was opened, stays.
  open(i, thoseLikeIt = false) {
    const { task, like } = this.place.dataset;
    window.open((thoseLikeIt ? like : task) + this.points.tasks[i], "_blank", "noopener");
  }

  // --- which point is where

  #candidates(x, y, reach) {
    if (!this.points || !this.scale) return [];
    if (!this.index) {
      this.index = new KDBush(this.points.count, 64, Uint16Array);
      for (let i = 0; i < this.points.count; i++) this.index.add(this.points.x[i], this.points.y[i]);
      this.index.finish();
    }
    const left = (x - this.origin.x) / this.scale.x;
    const top = (y - this.origin.y) / this.scale.y;
    const dx = reach / this.scale.x;
    const dy = reach / -this.scale.y;
    return this.index.range(left - dx, top - dy, left + dx, top + dy);
  }

  near(x, y) {
    let best = -1;
    let least = REACH * REACH;
    for (const i of this.#candidates(x, y, REACH)) {
      const [px, py] = this.at(i);
      const squared = (px - x) ** 2 + (py - y) ** 2;
      if (squared < least) [best, least] = [i, squared];
    }
    return best;
  }

  // The nearest point in a direction: within 45 degrees of it, and straight ahead rather than aside.
  next(dx, dy) {
    const from = this.chosen;
    const [x, y] = from >= 0 ? this.at(from) : [this.width / 2, this.height / 2];
    for (let reach = 24; reach < 4 * SPAN; reach *= 2) {
      let best = -1;
      let least = reach;
      for (const i of this.#candidates(x, y, reach)) {
        const [px, py] = this.at(i);
        const ahead = from < 0 ? 1 : (px - x) * dx + (py - y) * dy;
        const aside = from < 0 ? Math.hypot(px - x, py - y) : Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
        if (i === from || ahead <= 0 || (from >= 0 && aside > ahead)) continue;
        const cost = ahead + 2 * aside;
        if (cost < least) [best, least] = [i, cost];
      }
      if (best >= 0) return best;
      if (reach > 4 * Math.max(this.width, this.height) * this.transform.k) return from;
    }
    return from;
  }

  say(text) {
    this.place.querySelector(".map-note").textContent = text;
  }
}

function follow() {
  const place = document.getElementById("map");
  if (!place) return;
  if (!map || map.place !== place) map = window.everylabelMap = new PoolMap(place);
  map.refresh();
}

document.addEventListener("page-changed", follow);
follow();
