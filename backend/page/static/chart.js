// Accuracy over labels with its interval, by uPlot. The log of rounds is its text.
import { UPlot } from "./libraries.js";

let plot = null;
let drawn = "";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function options(place, points) {
  const muted = colour("--muted");
  const line = colour("--line");
  const accent = colour("--accent");
  const font = `13px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: muted, font, ticks: { show: false }, border: { show: false } };
  const lowest = Math.min(...points.map((point) => point[2])) * 100;
  return {
    width: place.clientWidth,
    height: place.clientHeight,
    padding: [14, 16, 0, 0],
    cursor: { drag: { x: false, y: false }, y: false, points: { size: 9 } },
    legend: { show: false },
    scales: {
      x: { time: false },
      y: { range: [Math.max(0, Math.floor(lowest / 10) * 10), 100] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 36, space: 70, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000] },
      { ...axis, grid: { stroke: line, width: 1 }, size: 52, space: 44, values: (_, ticks) => ticks.map((tick) => `${tick} %`) },
    ],
    series: [
      { label: "labels" },
      { label: "high", stroke: "transparent", points: { show: false } },
      { label: "low", stroke: "transparent", points: { show: false } },
      {
        label: "accuracy",
        stroke: accent,
        width: 2.5,
        points: { show: points.length < 25, size: 6, fill: accent },
      },
    ],
    bands: [{ series: [1, 2], fill: colour("--accent-soft") }],
    plugins: [readout(place)],
  };
}

// What the curve says under the pointer.
function readout(place) {
  let text = null;
  return {
    hooks: {
      init: (u) => {
        text = document.createElement("p");
        text.className = "readout";
        text.hidden = true;
        u.over.append(text);
      },
      setCursor: (u) => {
        const at = u.cursor.idx;
        text.hidden = at == null;
        if (at == null) return;
        const [labels, high, low, accuracy] = u.data.map((series) => series[at]);
        text.textContent = `${labels} labels: ${Math.round(accuracy)} % (${Math.round(low)} to ${Math.round(high)})`;
        text.classList.toggle("left", u.cursor.left > place.clientWidth / 2);
      },
    },
  };
}

export function drawChart(again = false) {
  const place = document.getElementById("chart");
  if (!place) {
    plot = null;
    drawn = "";
    return;
  }
  const given = place.dataset.points;
  if (plot && plot.root.parentNode === place && given === drawn && !again) return;
  drawn = given;
  const points = JSON.parse(given);
  const data = [
    points.map((point) => point[0]),
    points.map((point) => point[3] * 100),
    points.map((point) => point[2] * 100),
    points.map((point) => point[1] * 100),
  ];
  if (plot) plot.destroy();
  place.replaceChildren();
  plot = new UPlot(options(place, points), data, place);
}

addEventListener("resize", () => drawChart(true));
document.documentElement.addEventListener("theme", () => drawChart(true));
