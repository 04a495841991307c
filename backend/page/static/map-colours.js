// What colour each point has, by what a person wants to see, and the legend that says so.
import { interpolateViridis } from "./libraries.js";
import { NONE } from "./map-data.js";
import { packed } from "./map-painter.js";

const NAMED = 24;
const BOLD_MOST = 20000;
const CLASSES = {
  light: ["#2f6fde", "#dd7413", "#23925a", "#c93a50", "#7c52c8", "#8c5b3d", "#d557a5", "#76881a", "#1598ab", "#525a66"],
  dark: ["#6ea0ff", "#ffa04d", "#4ecb8d", "#ff7285", "#b08cff", "#c99471", "#ff8fd0", "#b5c84a", "#48cfe2", "#b3bcc9"],
};

const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

function classColour(code) {
  const named = CLASSES[isDark() ? "dark" : "light"];
  if (code < named.length) return named[code];
  // Turned by the golden angle, so that neighbours differ.
  const hue = (code * 137.508) % 360;
  return hex(hue, 0.5, isDark() ? 0.68 : [0.42, 0.52, 0.34][code % 3]);
}

function hex(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const a = saturation * Math.min(lightness, 1 - lightness);
    return Math.round(255 * (lightness - a * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return `#${[part(0), part(8), part(4)].map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

// On a light ground light yellow is lost, on a dark one dark violet: the scale stops before.
const scaleColour = (share) => interpolateViridis(isDark() ? 0.15 + 0.85 * share : 0.02 + 0.88 * share);

const plain = () => (isDark() ? "#565d69" : "#b9bec6");

export function modeColours(mode, known, classes, highlighted) {
  const { count } = known;
  const colours = new Uint32Array(count);
  const rank = new Uint8Array(count);
  const none = packed(plain(), mode === "uncertainty" ? 200 : 150);
  if (mode === "label" || mode === "prediction") {
    const codes = mode === "label" ? known.label : known.predicted;
    const shown = classes.map((_, code) => packed(classColour(code), mode === "label" ? 255 : 215));
    const faint = packed(plain(), 70);
    for (let i = 0; i < count; i++) {
      const code = codes[i];
      const lit = highlighted < 0 || code === highlighted;
      colours[i] = code === NONE ? (highlighted < 0 ? none : faint) : lit ? shown[code] : faint;
      rank[i] = code === NONE ? 0 : lit ? 2 : 1;
    }
  } else {
    const of = mode === "round" ? known.round : known.unsure;
    const most = mode === "round" ? Math.max(1, largest(known.round)) : 255;
    const scale = Array.from({ length: 256 }, (_, step) => packed(asHex(scaleColour(step / 255)), 235));
    for (let i = 0; i < count; i++) {
      const absent = mode === "round" ? of[i] === 0 : known.label[i] !== NONE;
      colours[i] = absent ? none : scale[Math.round((255 * of[i]) / most)];
      rank[i] = absent ? 0 : 1 + Math.round((254 * of[i]) / most);
    }
  }
  // A label, or a class that was picked, is looked for among all the rest.
  const bold = mode === "label" || highlighted >= 0 ? rank.reduce((sum, value) => sum + (value === 2), 0) : 0;
  return { colours, order: ordered(rank), bold: Math.min(bold, BOLD_MOST) };
}

// Points by rank, lowest first: a counting sort.
function ordered(rank) {
  const starts = new Uint32Array(257);
  for (const value of rank) starts[value + 1]++;
  for (let value = 1; value < 257; value++) starts[value] += starts[value - 1];
  const order = new Uint32Array(rank.length);
  for (let i = 0; i < rank.length; i++) order[starts[rank[i]]++] = i;
  return order;
}

function largest(values) {
  let found = 0;
  for (const value of values) if (value > found) found = value;
  return found;
}

function asHex(colour) {
  if (colour.startsWith("#")) return colour;
  const parts = colour.match(/\d+/g).map(Number);
  return `#${parts.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

export function drawLegend(place, mode, known, classes, highlighted, choose) {
  if (mode === "uncertainty") return scaleLegend(place, "certain", "uncertain", "labelled");
  if (mode === "round") {
    const most = largest(known.round);
    return scaleLegend(place, most ? "round 1" : "", most ? `round ${most}` : "", "not labelled");
  }
  const counts = new Uint32Array(classes.length);
  let without = 0;
  for (const code of mode === "label" ? known.label : known.predicted) {
    if (code === NONE) without++;
    else counts[code]++;
  }
  const shown = [...counts.keys()].filter((code) => counts[code]);
  if (shown.length > NAMED) shown.sort((one, other) => counts[other] - counts[one]);
  const buttons = shown.slice(0, NAMED).map((code) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "key";
    button.setAttribute("aria-pressed", String(code === highlighted));
    button.append(swatch(classColour(code)), classes[code], count(counts[code]));
    button.addEventListener("click", () => {
      choose(code === highlighted ? -1 : code);
      place.querySelectorAll("button")[shown.indexOf(code)]?.focus();
    });
    return button;
  });
  const rest = document.createElement("span");
  rest.className = "key";
  rest.append(swatch(plain()), mode === "label" ? "not labelled" : "no prediction", count(without));
  const more = shown.length - NAMED;
  place.replaceChildren(...buttons, ...(more > 0 ? [`and ${more} more`] : []), ...(without ? [rest] : []), queued());
}

function scaleLegend(place, least, most, absent) {
  const bar = document.createElement("canvas");
  bar.width = 160;
  bar.height = 10;
  const context = bar.getContext("2d");
  for (let x = 0; x < bar.width; x++) {
    context.fillStyle = scaleColour(x / bar.width);
    context.fillRect(x, 0, 1, bar.height);
  }
  const scale = document.createElement("span");
  scale.className = "key";
  scale.append(least, bar, most);
  const rest = document.createElement("span");
  rest.className = "key";
  rest.append(swatch(plain()), absent);
  place.replaceChildren(scale, rest, queued());
}

function queued() {
  const key = document.createElement("span");
  key.className = "key";
  const ring = document.createElement("i");
  ring.className = "ring";
  key.append(ring, "next batch");
  return key;
}

function swatch(colour) {
  const dot = document.createElement("i");
  dot.className = "swatch";
  dot.style.background = colour; // through the object model, which the policy allows
  return dot;
}

function count(number) {
  const text = document.createElement("small");
  text.textContent = number.toLocaleString();
  return text;
}
