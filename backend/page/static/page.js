// Keep the page up to date without reloading it: ask whether anything has changed, and change just that.
import { Idiomorph } from "./libraries.js";
import { drawChart } from "./chart.js";
import { findPictures } from "./pictures.js";
import "./tabs.js";

const EVERY = 1000;
const HIDDEN_EVERY = 10000;
const PATIENCE = 8000;

// What this page was answered with, where that was a failure.
const shown = Number(document.getElementById("failed")?.dataset.status ?? 0);

let tag = null;

async function refresh() {
  const headers = { Accept: "text/html" };
  if (tag) headers["If-None-Match"] = tag;
  const answer = await fetch(location.pathname, {
    headers,
    cache: "no-store",
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (answer.status === 304) return;
  if (answer.status === shown) return; // a page that says what is not there: so it is still
  if (answer.status === 404 || (answer.ok && shown)) return location.reload();
  if (!answer.ok) throw new Error(`the backend answered ${answer.status}`);
  const text = await answer.text();
  tag = answer.headers.get("ETag");
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("content");
  // What a script has drawn, and what a person has opened, stays.
  Idiomorph.morph(document.getElementById("content"), fresh, {
    morphStyle: "outerHTML",
    callbacks: {
      beforeNodeMorphed: (old, wanted) => {
        if (old.id === "chart" && wanted.id === "chart") {
          for (const { name, value } of wanted.attributes) old.setAttribute(name, value);
          return false;
        }
        if (old.dataset && "kept" in old.dataset && wanted.dataset && "kept" in wanted.dataset) {
          for (const { name, value } of wanted.attributes) {
            if (name.startsWith("data-") && old.getAttribute(name) !== value) old.setAttribute(name, value);
          }
          return false;
        }
        return true;
      },
      beforeAttributeUpdated: (name, { tagName, dataset }) => {
        if (dataset.own?.split(" ").includes(name)) return false; // set by the person: see tabs.js
        return tagName === "DETAILS" ? name !== "open" : tagName !== "IMG" || name === "data-picture";
      },
    },
  });
  changed();
}

function changed() {
  tellTimes();
  drawChart();
  findPictures();
  document.dispatchEvent(new Event("page-changed"));
}

function tellTimes() {
  for (const time of document.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    const seconds = Math.max(0, (Date.now() - at.getTime()) / 1000);
    const text =
      seconds < 10 ? "just now"
      : seconds < 90 ? `${Math.round(seconds / 10) * 10} s ago`
      : seconds < 5400 ? `${Math.round(seconds / 60)} min ago`
      : seconds < 129600 ? `${Math.round(seconds / 3600)} h ago`
      : at.toLocaleDateString(undefined, { year: "numeric", month: "short", day: "numeric" });
    if (time.textContent !== text) time.textContent = text;
    time.title = at.toLocaleString();
  }
}

async function keepRefreshing() {
  const lost = document.getElementById("lost");
  let wake;
  document.addEventListener("visibilitychange", () => wake());
  for (;;) {
    const pause = document.hidden ? HIDDEN_EVERY : EVERY;
    let timer;
    await new Promise((resume) => {
      wake = resume;
      timer = setTimeout(resume, pause);
    });
    clearTimeout(timer);
    try {
      await refresh();
      lost.hidden = true;
    } catch {
      lost.hidden = false; // it is asked again
    }
    tellTimes();
  }
}

changed();
keepRefreshing();
