// Label crops page by page. The next page is here before it is asked for; a page counts once the backend has it on disk.
import { Refusal, fetchPictures, get, post, postOnLeaving, untilAnswered } from "./label-requests.js";
import { isChoosing, onMoreLike, openChooser, setClasses } from "./label-chooser.js";
import * as grid from "./label-grid.js";
import * as like from "./label-like.js";
import { keep as keepInWindow, kept } from "./label-kept.js";
import { askForToken, signIn, signOut } from "./label-sign-in.js";
import { showKeys } from "./label-keys.js";
import { onSearch, showSearch } from "./label-search.js";
import { secondsInSight, startOver } from "./label-sight.js";
import { takeSelection, wanted } from "./label-selection.js";
import { setSeveral, toSend, withLabels } from "./label-sets.js";
import { countsInWords, kinds, titleOf, troubleInWords, whyNone } from "./label-words.js";

const STATE_EVERY = 3000;

const byId = (id) => document.getElementById(id);
const root = byId("label");
const kindOf = byId("kind");

let page = null;
let ahead = []; // pages that were given and are not on show yet
let asking = null; // the promise of the next page
let unsent = null; // {id, chosen, took} of a page that was confirmed, until the backend says that it has it
let busy = false; // true, or "confirming"
let undoWanted = false; // asked for while a page was being confirmed
let [confirmed, waiting] = [0, 0];
let classes = [];

// --- what is shown

function say(text) {
  byId("problem").textContent = text ?? "";
}

function tell({ waiting: left, trouble }) {
  waiting = left ?? waiting;
  byId("counts").textContent = countsInWords(confirmed, waiting);
  if (!trouble) return;
  byId("trouble").hidden = !trouble.length;
  byId("trouble").querySelector("ul").replaceChildren(...troubleInWords(trouble));
}

function describe(found) {
  const { classes: names, keys, several } = found;
  if (!names) return;
  classes = names;
  setSeveral(several);
  grid.setKeys(keys);
  setClasses(names);
  const chosen = kindOf.value;
  kindOf.replaceChildren(...kinds(found, chosen).map(([value, text]) => new Option(text, value, false, value === chosen)));
  showKeys(names, keys);
}

function show(next, chosen) {
  page = withLabels(next);
  startOver();
  byId("empty").hidden = Boolean(page);
  byId("confirm").disabled = !page;
  byId("page-title").textContent = page ? titleOf(page) : "";
  like.show(page);
  grid.showPage(page, chosen, like.firstClass(page));
  keep();
}

function keep() {
  keepInWindow({ id: page?.id ?? null, kind: kindOf.value, chosen: grid.chosen(), waiting: like.pagesThatWait(), unsent });
}

// --- getting pages

async function ask(more = {}) {
  return post("/pages", { ...wanted(kindOf.value), ...more });
}

// Have the next page here, and its pictures in the browser's cache, while this one is being looked at.
function prefetch() {
  if (ahead.length || asking) return;
  const kind = kindOf.value;
  asking = ask()
    .then((found) => {
      tell(found);
      describe(found);
      if (!found.page) return;
      if (kind !== kindOf.value) return post("/give-back", { pages: [found.page.id] });
      ahead.push(found.page);
      fetchPictures(found.page); // nobody waits for them
    })
    .catch(() => {}) // it is asked for when it is needed, and says then what is wrong
    .finally(() => (asking = null));
}

const patiently = (send) => untilAnswered(send, say);

// `before` is a page that was on show before, with what was chosen on it.
async function showNext(before) {
  const more = before?.id ? { resume: before.id } : undefined;
  if (!more && !ahead.length && asking) await asking;
  if (ahead.length) {
    show(ahead.shift());
  } else {
    const found = await patiently(() => ask(more));
    describe(found);
    tell(found);
    if (!found.page) byId("empty").querySelector("p").textContent = whyNone(kindOf.value.split(":")[0], found.has_model);
    show(found.page, more && found.page?.id === before.id ? before.chosen : null);
  }
  if (page) prefetch();
}

// --- what a person does

async function confirm() {
  if (busy || !page) return;
  busy = "confirming";
  const given = page;
  const chosen = grid.chosen();
  const took = secondsInSight();
  unsent = { id: given.id, chosen, took };
  keep();
  say();
  try {
    // The next page is shown while this one is stored.
    const stored = store(unsent);
    if (ahead.length) show(ahead.shift());
    await stored;
    if (page === given) await showNext();
    else if (page) prefetch();
  } catch (error) {
    [unsent, undoWanted] = [null, false]; // an undo would take the page before it back
    if (page !== given) {
      if (page) ahead.unshift(page);
      show(given, chosen);
    } else keep();
    fail(error);
    if (error.status === 409) await renewClasses();
    if (error.status === 404) await showNext().catch(fail);
  } finally {
    busy = false;
    if (undoWanted) undo();
  }
}

// The backend takes a page once, however often it comes.
async function store({ id, chosen, took }) {
  const answer = await patiently(() => post(`/pages/${id}/confirm`, { labels: toSend(chosen.labels), seconds: took }));
  unsent = null;
  keep();
  confirmed += answer.confirmed;
  tell(answer);
  if (answer.too_fast) say("That page was confirmed faster than anybody can look at it; the project's owner is told. Undo it if that was a slip.");
}

// Go on where this window was before it was loaded again: first with the page that was on its way to the backend.
async function resume(before) {
  busy = true;
  try {
    if (before?.unsent) await store(before.unsent);
  } catch (error) {
    fail(error);
    if (error.wantsSignIn) return; // it is sent once somebody has signed in
    before = { ...before, ...before.unsent };
  } finally {
    busy = false;
  }
  await showNext(before);
}

async function renewClasses() {
  const found = await ask({ resume: page.id }).catch(() => null);
  if (!found) return;
  describe(found);
  grid.keepClasses(classes);
}

async function undo() {
  undoWanted = busy === "confirming";
  if (busy) return;
  busy = true;
  say();
  try {
    const id = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const found = await patiently(() => post("/undo", { page: id })); // taken back once, however often it comes
    confirmed = Math.max(0, confirmed - (found.page?.crops ?? []).filter(({ label }) => label !== null).length);
    tell(found);
    if (!found.page) return say("There is no page of yours to undo.");
    if (page) ahead.unshift(page);
    show(found.page);
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

function fail(error) {
  if (!(error instanceof Refusal)) throw error;
  say(error.message);
  if (error.wantsSignIn) askForToken(error.message);
}

// Leave the page on show for another: of the kind that is chosen, or for one that waits.
async function leaveFor(choose) {
  if (busy) return;
  busy = "leaving"; // what is pressed from now on is not for the page that is left
  say();
  try {
    if (asking) await asking;
    const { back, before } = choose();
    const given = [...back, ...ahead.map(({ id }) => id)];
    ahead = [];
    show(null);
    byId("empty").hidden = true;
    if (given.length) await patiently(() => post("/give-back", { pages: given }));
    await showNext(before);
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

const onShow = () => (page ? [page.id] : []);

const changeKind = () => leaveFor(() => ({ back: onShow(), before: like.comeBack(kindOf.value) }));

// The crops most like the current one. The page it is on waits, with the classes chosen on it.
function moreLike() {
  const crop = grid.currentCrop();
  if (crop) leaveFor(() => {
    const back = like.leave(page, kindOf.value, crop);
    choose(like.kindLike(crop.task));
    return { back, before: null };
  });
}

const goBack = () => leaveFor(() => {
  const back = onShow();
  const before = like.comeBack();
  choose(before.kind);
  return { back, before };
});

function choose(kind) {
  if (![...kindOf.options].some(({ value }) => value === kind)) kindOf.append(new Option(like.nameOfKind(kind), kind));
  kindOf.value = kind;
}

// The crops without a class are asked for next in Label Studio; those with one are confirmed, as Enter does.
async function askNext() {
  const tasks = grid.openTasks();
  if (busy || !page || !tasks.length) return;
  busy = true;
  say();
  try {
    await like.askNext(tasks);
  } catch (error) {
    return fail(error);
  } finally {
    busy = false;
  }
  if (Object.keys(grid.chosen().labels).length) await confirm();
  else await leaveFor(() => ({ back: onShow(), before: null }));
}

function giveRest() {
  if (page && page.class_name === null) grid.giveRest();
}

// --- keys

function onKey(event) {
  if (byId("labelling").hidden || isChoosing() || event.altKey || event.isComposing) return;
  if (event.target.closest?.("input")) return; // what is typed there is the field's, its undo and Enter, too
  const key = event.key;
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z" && !event.shiftKey) {
    event.preventDefault();
    return void undo();
  }
  if (event.ctrlKey || event.metaKey || busy === "leaving") return;
  const inGrid = event.target.closest?.("#grid");
  if (!inGrid && event.target.closest?.("select, button, a")) return;
  const name = classes.find((one) => grid.keyOfClass(one) === key.toLowerCase());
  if (key === "Enter") {
    if (!event.repeat) confirm(); // a key held down confirms one page, not all
  } else if (grid.isEmpty()) return;
  else if (key.startsWith("Arrow") || key === "Home" || key === "End") grid.step(key);
  else if (key === " ") grid.toggleZoom();
  else if (key === "Escape") grid.hideZoom();
  else if (key === "/") openChooser();
  else if (key === "+") moreLike();
  else if (key === "." && page.kind === "suspects") grid.takeSuggested();
  else if (key === "," && page.kind === "suspects") grid.keepLabel();
  else if (key === ".") giveRest();
  else if (key === "Backspace" || key === "Delete") grid.give(null), page.class_name ?? grid.goOn();
  else if (name !== undefined) event.repeat || grid.choose(name, page.class_name === null);
  else return;
  event.preventDefault();
}

async function keepTelling() {
  for (;;) {
    await new Promise((resume) => setTimeout(resume, STATE_EVERY));
    if (waiting && !document.hidden) await get("/state").then(tell).catch(() => {});
  }
}

function start() {
  byId("sign-in").addEventListener("submit", signIn);
  if (!root.dataset.signedIn) return byId("token").focus();
  byId("sign-out").addEventListener("click", signOut);
  byId("confirm").addEventListener("click", confirm);
  byId("undo").addEventListener("click", undo);
  byId("rest").addEventListener("click", giveRest);
  byId("ask-next").addEventListener("click", askNext);
  byId("withdraw").addEventListener("click", () => like.withdraw().catch(fail));
  byId("keep").addEventListener("click", grid.keepLabel);
  byId("suggestion").addEventListener("click", grid.takeSuggested);
  byId("back").addEventListener("click", goBack);
  onMoreLike(moreLike);
  onSearch((kind) => busy || (choose(kind), changeKind()));
  kindOf.addEventListener("change", changeKind);
  document.addEventListener("keydown", onKey);
  byId("grid").addEventListener("click", ({ target }) => target.closest(".cell") && openChooser());
  // Nobody else waits for a page of a window that is closed; one that is loaded again asks for it once more. A page on its
  // way to the backend stays this person's.
  addEventListener("pagehide", () => {
    const left = [...ahead, page, ...like.pagesThatWait()].map((one) => one?.id).filter((id) => id && id !== unsent?.id);
    if (left.length) postOnLeaving("/give-back", { pages: left });
  });
  addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  grid.onChange(keep);
  const asked = takeSelection() ?? like.takeFromAddress();
  const before = asked ? null : kept();
  if (before) like.restore(before.waiting);
  const kind = asked ?? before?.kind;
  if (kind) choose(kind);
  if (asked) keep(); // a reload before the first answer, too, asks for it
  resume(before).catch(fail).finally(showSearch);
  keepTelling();
}

if (root) start();
