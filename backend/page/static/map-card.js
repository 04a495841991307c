// The card beside a point: its crop, and what is known of it.

import { empty, show } from "./pictures.js";

const IMAGE_AFTER_MS = 90;

export class MapCard {
  constructor(place) {
    this.card = place.querySelector(".map-card");
    this.image = this.card.querySelector("img");
    this.lines = this.card.querySelector("p");
    this.aloud = place.querySelector(".map-said");
    this.words = this.card.querySelector(".words");
    this.root = place;
    this.address = place.dataset.crop;
    this.like = this.card.querySelector("a.like");
  }

  show({ task, label, predicted, confidence, round, queued, aloud }) {
    const known = [];
    if (label !== null) known.push(`labelled ${label}${round ? `, round ${round}` : ""}`);
    if (predicted !== null) known.push(`predicted ${predicted}, ${Math.min(99, Math.round(confidence * 100))} %`);
    if (label === null && predicted === null) known.push("nothing known yet");
    if (queued) known.push("in the next batch");
    const number = document.createElement("strong");
    number.textContent = `Task ${task}`;
    this.lines.replaceChildren(number, ...known.map(line));
    this.like.href = this.root.dataset.like + task;
    const same = task === this.task && !this.card.hidden;
    this.card.hidden = false;
    if (aloud) this.aloud.textContent = `Task ${task}: ${known.join("; ")}. Enter opens it, M those most like it.`;
    if (same) return;
    empty(this.image);
    delete this.image.dataset.picture;
    clearTimeout(this.timer);
    this.words.textContent = "";
    const isText = this.root.dataset.kind === "text";
    this.image.hidden = isText;
    this.words.hidden = !isText;
    this.task = task;
    // Not every crop the pointer crosses is fetched.
    this.timer = setTimeout(() => (isText ? this.#read(task) : this.#picture(task)), IMAGE_AFTER_MS);
  }

  #picture(task) {
    this.image.dataset.picture = this.image.found = this.address + task;
    show(this.image);
  }

  async #read(task) {
    const answer = await fetch(this.address + task).catch(() => null);
    const text = answer?.ok ? await answer.text() : "";
    if (this.task === task) this.words.textContent = text;
  }

  hide() {
    clearTimeout(this.timer);
    this.card.hidden = true;
  }

  place(x, y, width, height) {
    const { offsetWidth, offsetHeight, style } = this.card;
    const left = x + 18 + offsetWidth > width ? x - 18 - offsetWidth : x + 18;
    style.left = `${Math.max(4, Math.min(width - offsetWidth - 4, left))}px`;
    style.top = `${Math.max(4, Math.min(height - offsetHeight - 4, y - offsetHeight / 2))}px`;
  }
}

function line(text) {
  const span = document.createElement("span");
  span.textContent = text;
  return span;
}
