// Signing in to the page that people label on, with a token of Label Studio's, and out again.
import { Refusal, post } from "./label-requests.js";
import { forget } from "./label-kept.js";
import { forgetSelection } from "./label-selection.js";

const byId = (id) => document.getElementById(id);

export function askForToken(why) {
  byId("sign-in").hidden = false;
  byId("labelling").hidden = true;
  byId("sign-in-refused").textContent = why ?? "";
  byId("token").focus();
}

export async function signIn(event) {
  event.preventDefault();
  const token = byId("token").value;
  byId("token").value = "";
  try {
    await post("/sign-in", { token });
    location.reload(); // the page on show is kept, and so are its classes
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    byId("sign-in-refused").textContent = error.message;
    byId("token").focus();
  }
}

export async function signOut() {
  await post("/sign-out").catch(() => {});
  forget();
  forgetSelection();
  location.reload();
}
