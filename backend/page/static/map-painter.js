// Paints points into an image, disc by disc, and rings over it.

const MAX_RATIO = 2;
const FINE = 1.3;
const BOLD = 2.6;

export class Painter {
  #colours = new Uint32Array(0);
  #order = new Uint32Array(0);

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
  }

  // colours: red, green, blue and opacity of each point, as bytes; order: who is painted first; bold: how many
  // of the last in that order stay large enough to be seen among all others.
  take(count, colours, order, bold) {
    this.count = count;
    this.bold = bold;
    this.#colours = colours;
    this.#order = order;
  }

  resize(width, height) {
    this.ratio = Math.min(MAX_RATIO, devicePixelRatio || 1);
    this.canvas.width = this.width = Math.max(1, Math.round(width * this.ratio));
    this.canvas.height = this.height = Math.max(1, Math.round(height * this.ratio));
    this.image = this.context.createImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  paint(points, scale, origin, zoomed, rings, chosen) {
    const styles = getComputedStyle(document.documentElement);
    const radius = this.#radius(zoomed);
    const paper = packed(styles.getPropertyValue("--card").trim());
    this.pixels.fill(paper);
    const split = this.#order.length - this.bold;
    if (radius < FINE * this.ratio) this.#dot(points, scale, origin, paper, this.#order.subarray(0, split));
    else this.#stamp(points, scale, origin, radius, this.#order.subarray(0, split));
    this.#stamp(points, scale, origin, Math.max(radius, BOLD * this.ratio), this.#order.subarray(split));
    this.context.putImageData(this.image, 0, 0);
    const ink = styles.getPropertyValue("--ink").trim();
    for (const i of rings) this.#ring(points, scale, origin, i, radius + 3 * this.ratio, 1.5, ink);
    if (chosen >= 0) this.#ring(points, scale, origin, chosen, radius + 5 * this.ratio, 3, ink);
  }

  // So that all points together cover a part of the view, and grow while it is zoomed in.
  #radius(zoomed) {
    const room = Math.sqrt((this.width * this.height) / Math.max(1, this.count));
    return Math.min(7 * this.ratio, Math.max(0.9 * this.ratio, Math.min(4.5 * this.ratio, room * 0.17) * zoomed ** 0.3));
  }

  // Many points: small squares, opaque, each in four writes.
  #dot(points, scale, origin, paper, order) {
    const { pixels, width, height, ratio } = this;
    const [sx, sy, ox, oy] = [scale.x * ratio, scale.y * ratio, origin.x * ratio, origin.y * ratio];
    const { x, y } = points;
    if (this.mixedFor !== this.#colours || this.mixedOn !== paper) {
      this.mixed = this.#colours.map((colour) => mix(colour, paper, ((colour >>> 24) * 257) >> 8));
      this.mixedFor = this.#colours;
      this.mixedOn = paper;
    }
    for (let at = 0; at < order.length; at++) {
      const i = order[at];
      const column = (x[i] * sx + ox) | 0;
      const row = (y[i] * sy + oy) | 0;
      if (column < 1 || row < 1 || column >= width - 1 || row >= height - 1) continue;
      const p = row * width + column;
      const colour = this.mixed[i];
      pixels[p] = colour;
      pixels[p + 1] = colour;
      pixels[p + width] = colour;
      pixels[p + width + 1] = colour;
    }
  }

  #stamp(points, scale, origin, radius, order) {
    const { pixels, width, height, ratio } = this;
    const stamp = disc(radius, width);
    const reach = Math.ceil(radius) + 1;
    const [sx, sy, ox, oy] = [scale.x * ratio, scale.y * ratio, origin.x * ratio, origin.y * ratio];
    const { x, y } = points;
    const colours = this.#colours;
    for (let at = 0; at < order.length; at++) {
      const i = order[at];
      const column = Math.round(x[i] * sx + ox);
      const row = Math.round(y[i] * sy + oy);
      if (column < reach || row < reach || column >= width - reach || row >= height - reach) continue;
      const middle = row * width + column;
      const colour = colours[i];
      const opacity = colour >>> 24;
      for (let s = 0; s < stamp.offsets.length; s++) {
        const cover = (stamp.cover[s] * opacity) >> 8;
        const p = middle + stamp.offsets[s];
        if (cover >= 250) {
          pixels[p] = colour | 0xff000000;
          continue;
        }
        pixels[p] = mix(colour, pixels[p], cover);
      }
    }
  }

  #ring(points, scale, origin, i, radius, width, colour) {
    const { context, ratio } = this;
    context.beginPath();
    context.arc(
      (points.x[i] * scale.x + origin.x) * ratio,
      (points.y[i] * scale.y + origin.y) * ratio,
      radius,
      0,
      2 * Math.PI,
    );
    context.lineWidth = width * ratio;
    context.strokeStyle = colour;
    context.stroke();
  }
}

// One colour over another, `cover` of 256 parts of it.
function mix(colour, below, cover) {
  const rest = 256 - cover;
  return (
    0xff000000 |
    ((((colour & 0xff00ff) * cover + (below & 0xff00ff) * rest) >>> 8) & 0xff00ff) |
    ((((colour & 0x00ff00) * cover + (below & 0x00ff00) * rest) >>> 8) & 0x00ff00)
  );
}

// The pixels of a disc, relative to its middle, and how much of each it covers, 0 to 256.
function disc(radius, width) {
  const offsets = [];
  const cover = [];
  const reach = Math.ceil(radius);
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const covered = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (covered < 0.04) continue;
      offsets.push(dy * width + dx);
      cover.push(Math.round(covered * 256));
    }
  }
  return { offsets: Int32Array.from(offsets), cover: Uint16Array.from(cover) };
}

// A colour such as #1b1d21 as the image holds it.
export function packed(hex, opacity = 255) {
  const value = Number.parseInt(hex.slice(1), 16);
  return ((opacity << 24) | ((value & 0xff) << 16) | (value & 0xff00) | (value >>> 16)) >>> 0;
}
