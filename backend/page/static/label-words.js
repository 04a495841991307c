// What the page that people label on says: counts, titles, troubles, kinds of pages, and why there is no page.
import { nameOfKind, title } from "./label-like.js";
import { SELECTION, selectedTasks } from "./label-selection.js";

export function countsInWords(confirmed, waiting) {
  const given = confirmed ? `${confirmed.toLocaleString()} confirmed since you opened this page. ` : "Nothing confirmed since you opened this page. ";
  return given + (waiting ? `${waiting.toLocaleString()} on their way to Label Studio.` : confirmed ? "All are in Label Studio." : "");
}

export function troubleInWords(trouble) {
  return trouble.map(({ task, label, reason, address }) => {
    const link = Object.assign(document.createElement("a"), { href: address, textContent: `Task ${task}` });
    const entry = document.createElement("li");
    entry.append(link, ` as ${label}: ${reason}`);
    return entry;
  });
}

export function titleOf(page) {
  const number = page.crops.length === 1 ? "1 crop" : `${page.crops.length} crops`;
  if (page.class_name) return `${number}, predicted: ${page.class_name}`;
  return title(page, number) ?? `${number} without a class`;
}

// The kinds of pages there are, as [value, words]; the chosen one always among them.
export function kinds({ classes, open, spot_check: spot, suspects, second_labels: second }, chosen) {
  const found = [
    ["class", "crops alike, class by class"],
    ...classes.filter((name) => open[name]).map((name) => [`class:${name}`, `${name} (${open[name].toLocaleString()})`]),
    ["next-batch", "the next batch, no class given"],
    ...(suspects ? [["suspects", `suspect labels (${suspects})`]] : []),
    ...(second ? [["second-labels", `second labels (${second})`]] : []),
    ...(selectedTasks().length ? [[SELECTION, nameOfKind(SELECTION)]] : []),
    ...(spot ? [["spot-check", `the spot check (${spot})`]] : []),
  ];
  return found.some(([value]) => value === chosen) ? found : [...found, [chosen, nameOfKind(chosen)]];
}

export function whyNone(kind, hasModel) {
  return (
    kind === "class" && !hasModel ? "There is no model yet, so no crop has a predicted class. Label the next batch first: ten crops of two classes are enough."
    : kind === SELECTION ? "No crop of your selection is left to show: all are labelled, kept for the check set or asked for next, or on other people's pages just now, or you have left them out today. Choose other crops above."
    : kind === "words" ? "No open crop is left to find by words: all are labelled or asked for next, or on other people's pages just now, or you have left them out today. Choose other crops above."
    : kind === "like" ? "No open crop is left to show: all are labelled, or on other people's pages just now, or you have left them out today. Choose other crops above."
    : kind === "suspects" ? "No label is suspect just now, or you have left out those that are, or other people are reviewing them. Choose other crops above."
    : kind === "second-labels" ? "No second label is worth asking you for: nobody disagrees on a crop yet, or you have labelled or left out all that are worth it, or others have them just now. Choose other crops above."
    : kind === "class" ? "No open crop is predicted to be of this class, or other people are labelling them just now. Choose another above."
    : "Nothing waits to be labelled here: the next round may bring more, or other people are labelling the rest just now."
  );
}
