// The map as it travels: backend/page/points.py writes what is read here.

export const NONE = 65535;
export const SPAN = 65535;
const MARGIN = 22;
const STRETCH = 1.6;

async function fetchBuffer(address) {
  const answer = await fetch(address, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.arrayBuffer();
}

export async function fetchPoints(address) {
  const buffer = await fetchBuffer(address);
  const count = new Uint32Array(buffer, 0, 1)[0];
  const x = new Uint16Array(buffer, 8 + 8 * count, count);
  const y = new Uint16Array(buffer, 8 + 10 * count, count);
  const [left, right] = span(x);
  const [bottom, top] = span(y);
  return { count, tasks: new Float64Array(buffer, 8, count), x, y, left, right, bottom, top };
}

function span(values) {
  let least = SPAN;
  let most = 0;
  for (const value of values) {
    if (value < least) least = value;
    if (value > most) most = value;
  }
  return least > most ? [0, SPAN] : [least, most];
}

// The map fills the view, stretched a little where that helps: pixels a unit, and where its origin lies.
export function fit({ left, right, bottom, top }, width, height) {
  const across = Math.max(1, width - 2 * MARGIN) / Math.max(1, right - left);
  const up = Math.max(1, height - 2 * MARGIN) / Math.max(1, top - bottom);
  const [x, y] = [Math.min(across, STRETCH * up), Math.min(up, STRETCH * across)];
  return { x, y, left: width / 2 - (x * (left + right)) / 2, top: height / 2 + (y * (bottom + top)) / 2 };
}

export async function fetchKnown(address) {
  const buffer = await fetchBuffer(address);
  const count = new Uint32Array(buffer, 0, 1)[0];
  const shorts = (at) => new Uint16Array(buffer, 8 + at * count, count);
  return {
    count,
    label: shorts(0),
    predicted: shorts(2),
    round: shorts(4),
    unsure: new Uint8Array(buffer, 8 + 6 * count, count),
  };
}
