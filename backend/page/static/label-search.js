// The search by words: a field beside the kinds of pages, where the project's encoder can read words.
import { kept } from "./label-kept.js";

const WORDS = "words:";
const form = document.getElementById("search");
const field = document.getElementById("search-words");

export const isWords = (kind) => kind.startsWith(WORDS);
export const nameOfWords = (kind) => `crops by the words “${shortened(kind.slice(WORDS.length))}”`;

const shortened = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

// The field is there once the first page is: a search before that would race with it, and one before the scripts reload the page.
export function showSearch() {
  if (form) form.hidden = false;
}

// Have a page of the crops that fit the words; what was typed stays in the field, also when the window is loaded again.
export function onSearch(show) {
  if (!form) return;
  const before = kept()?.kind ?? "";
  if (isWords(before)) field.value = before.slice(WORDS.length);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const words = field.value.trim().replace(/\s+/g, " ");
    if (words) show(WORDS + words);
  });
}
