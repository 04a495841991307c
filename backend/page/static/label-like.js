// Crops like one of them: where they are asked from, what is said of that one, and the pages that wait meanwhile.
import { post } from "./label-requests.js";
import * as grid from "./label-grid.js";
import { isWords, nameOfWords } from "./label-search.js";
import { SELECTION, selectedTasks } from "./label-selection.js";

const OF_LABELLED = { suspects: "suspect labels", "second-labels": "second labels" }; // kinds that the address may ask for
const MOST = 6; // pages that wait; a person has twelve at a time at most

const byId = (id) => document.getElementById(id);

let waiting = []; // {id, kind, chosen}: pages that were left for the crops like one of theirs, the last one last
let askedFor = null; // the crops that were just asked for next
let first = null; // the class that the crop had been given on the page it was on

export const kindLike = (task) => `like:${task}`;
export const isLike = (kind) => kind.startsWith("like:");
export const nameOfKind = (kind) =>
  isLike(kind) ? `crops like task ${kind.slice(5)}`
  : isWords(kind) ? nameOfWords(kind)
  : kind === SELECTION ? `${selectedTasks().length.toLocaleString()} selected on the map`
  : Object.hasOwn(OF_LABELLED, kind) ? `${OF_LABELLED[kind]} (0)`
  : `${kind.replace("class:", "")} (0)`;
export const pagesThatWait = () => waiting;

// What the address asks for: the crops like one, suspect labels, or second labels; it is asked for once, and not again when the page is loaded again.
export function takeFromAddress() {
  const asked = new URLSearchParams(location.search);
  const task = asked.get("like");
  const kind = asked.get("show");
  if (task === null && !Object.hasOwn(OF_LABELLED, kind)) return null;
  history.replaceState(null, "", location.pathname);
  if (task === null) return kind;
  return /^[1-9]\d{0,15}$/.test(task) ? kindLike(task) : null;
}

export function restore(pages) {
  waiting = Array.isArray(pages) ? pages.slice(-MOST) : [];
  renew();
}

// Have a page wait, and remember the class that was given to the crop it is left for.
export function leave(page, kind, crop) {
  if (page) waiting.push({ id: page.id, kind, chosen: grid.chosen() });
  first = crop.label !== crop.preset ? crop.label : null;
  const given = waiting.slice(0, -MOST);
  waiting = waiting.slice(-MOST);
  renew();
  return given.map(({ id }) => id);
}

// The page of this kind that waits, the last one for no kind; it waits no longer.
export function comeBack(kind) {
  const at = waiting.findLastIndex((page) => kind === undefined || page.kind === kind);
  first = null;
  const [page] = at < 0 ? [] : waiting.splice(at, 1);
  renew();
  return page;
}

export function show(page) {
  const like = page?.like;
  byId("seed").hidden = !like;
  const isReview = page?.kind === "suspects";
  byId("rest").hidden = !page || isReview || page.class_name !== null;
  byId("keep").hidden = byId("suggestion").hidden = !isReview;
  byId("ask-next").hidden = !like && page?.kind !== SELECTION && page?.kind !== "words";
  if (!like) return;
  const image = byId("seed").querySelector("img");
  image.hidden = Boolean(like.text);
  if (!like.text) image.src = like.picture;
  byId("seed").querySelector(".words").textContent = like.text ?? "";
  byId("seed").querySelector("a").href = like.address;
  byId("seed").querySelector("a").textContent = `Task ${like.task}`;
  byId("seed-label").textContent = like.label === null ? "" : `, labelled ${like.label}`;
}

export const firstClass = (page) => page?.like?.label ?? (page?.like ? first : null);

// The crops without a class go to the head of Label Studio's queue; `tasks` are those to take from there again.
export async function askNext(tasks) {
  const { asked, left_out: leftOut } = await post("/ask-next", { tasks });
  const but = leftOut ? `; ${crops(leftOut)} labelled meanwhile, left out` : "";
  tell(asked ? `${crops(asked)} asked for next: Label All Tasks begins with them from the next round${but}.` : "None of these crops is open any more.", asked ? tasks : null);
}

export async function withdraw() {
  const tasks = askedFor;
  tell("", null);
  await post("/ask-next", { tasks, withdraw: true });
  tell("They are asked for in the model's own order again.", null);
}

const crops = (count) => (count === 1 ? "1 crop" : `${count} crops`);

function tell(text, tasks) {
  askedFor = tasks;
  byId("asked").querySelector("span").textContent = text;
  byId("withdraw").hidden = !tasks;
}

export const tellNothing = () => tell("", null);

export function title(page, number) {
  if (page.kind === "suspects") return `${number} with a suspect label`;
  if (page.kind === "second-labels") return `${number} that others have labelled`;
  if (page.kind === SELECTION) return `${number} selected on the map`;
  if (page.kind === "words") return `${number} found by words, the closest first`;
  return page.like ? `${number} like task ${page.like.task}` : null;
}

function renew() {
  byId("back").hidden = !waiting.length;
}
