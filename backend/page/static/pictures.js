// Pictures of crops. The server makes a few at a time and answers 503 to more, so they stand in line here; those out
// of sight wait until they come near.
const RETRIES = 6;
const AT_A_TIME = 2; // one less than the server makes: the map's card is not kept waiting
const NEAR = "300px";

const line = [];
let asking = 0;

const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      line.push(target);
      if (asking < AT_A_TIME) askInTurn();
    }
  },
  { rootMargin: NEAR },
);

// Every picture of the page that is not shown yet: those with another `data-picture` than before count too.
export function findPictures() {
  for (const image of document.querySelectorAll("img[data-picture]")) {
    if (image.dataset.picture === image.found) continue;
    image.found = image.dataset.picture;
    empty(image);
    near.unobserve(image);
    near.observe(image);
  }
}

export function empty(image) {
  image.removeAttribute("src");
  image.classList.remove("missing");
}

async function askInTurn() {
  asking++;
  while (line.length) await show(line.shift());
  asking--;
}

// Show the picture an image is for, asking again while the server has no hand free.
export async function show(image) {
  const address = image.dataset.picture;
  const wanted = () => image.isConnected && image.dataset.picture === address;
  for (let tried = 0; tried <= RETRIES; tried++) {
    if (tried) await new Promise((resume) => setTimeout(resume, 250 * 2 ** tried));
    if (!wanted()) return; // it shows another crop by now
    const answer = await fetch(address).catch(() => null);
    await answer?.blob().catch(() => null); // whole, and so in the browser's cache
    if (!wanted()) return;
    if (answer?.ok) return image.setAttribute("src", address);
    if (answer?.status !== 503) break;
  }
  image.classList.add("missing");
}
