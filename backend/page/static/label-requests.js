// Requests of the page that people label on. A refusal is thrown as a `Refusal`, with the reason to show.
const base = document.getElementById("label")?.dataset.base;
const PATIENCE = 20000;
const RETRY_AFTER = 2000;

export class Refusal extends Error {
  constructor(why, status) {
    super(why);
    this.status = status;
  }
  // Sending the same once more may help: nobody answered, or nobody could.
  get passes() {
    return !this.status || this.status >= 500;
  }
  get wantsSignIn() {
    return this.status === 401;
  }
}

const posting = (body) => ({
  method: "POST",
  headers: {
    "Content-Type": "application/json",
    Accept: "application/json",
    "X-Everylabel-Token": document.querySelector("meta[name=page-token]").content,
  },
  body: JSON.stringify(body),
});

export const post = (path, body = {}) => answered(path, posting(body));

// While the page is being left, when no answer is awaited any more.
export const postOnLeaving = (path, body) => void fetch(base + path, { ...posting(body), keepalive: true }).catch(() => {});

export const get = (path) => answered(path, { headers: { Accept: "application/json" } });

async function answered(path, options) {
  let answer;
  try {
    answer = await fetch(base + path, { ...options, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Refusal("The backend does not answer.", 0);
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refusal(found.error ?? `The backend answered ${answer.status}.`, answer.status);
  return found;
}

// Have the pictures of a page's crops in the browser's cache, two at a time.
export async function fetchPictures({ crops }) {
  const line = crops.filter((crop) => !crop.text).map((crop) => crop.picture);
  const fetchNext = async () => {
    while (line.length) await fetch(line.shift()).then((answer) => answer.blob()).catch(() => {});
  };
  await Promise.all([fetchNext(), fetchNext()]);
}

// Send until it is answered or refused; `say` is told what is wrong meanwhile.
export async function untilAnswered(send, say) {
  for (;;) {
    try {
      return await send();
    } catch (error) {
      if (!(error instanceof Refusal) || !error.passes) throw error;
      say(`${error.message} What you have chosen is kept, and sent again.`);
    }
    await new Promise((again) => setTimeout(again, RETRY_AFTER));
    say();
  }
}
