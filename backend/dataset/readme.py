"""The README.md of a data set: what is in it, where it is from, and how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everylabel.backend.dataset.labelled_crops import ACCEPTED, CERTIFICATE, PERSON, PSEUDO_LABEL, TEST, TRAIN

_SAID_BY = {
    PERSON: "said by people",
    CERTIFICATE: "said by the model, under a certificate: people have checked a random part of them",
    ACCEPTED: "said by the model and accepted in bulk above a confidence; checked by nobody",
    PSEUDO_LABEL: "pseudo-labels: said by the model, checked by nobody",
}


def text(about: Mapping[str, Any]) -> str:
    """Return the page, with the YAML at its beginning by which Hugging Face's `datasets` finds the splits."""
    counts = about["crops"]
    lines = [
        *_configs(about),
        f"# {about['name']}",
        "",
        f"Labels of the Label Studio project {about['project']} ({_cell(str(about['title']))}), exported by everylabel "
        f"{about['everylabel']} on {about['made_at']}. Digest of the labels: `{about['digest']}`.",
        "",
        f"- **{TRAIN}**: {sum(counts[TRAIN].values()):,} crops.",
        f"- **{TEST}**: {sum(counts[TEST].values()):,} crops, sampled at random and labelled by people who saw no "
        "suggestion. No other crop is in it, and none of these is in the training set.",
        *(f"- {n:,} labels are {_SAID_BY[source]}." for source, n in about["sources"].items()),
    ]
    if about["suspected"]:
        lines.append(f"- {about['suspected']:,} labels are suspected to be wrong: the column `suspected`.")
    if about["problems"]:
        lines.append(
            f"- {about['problems']:,} crops cannot be read: the column `problem` of `labels.csv` says why."
        )
    if about["model"]:
        lines.append(
            f"- Accuracy of the model of round {about['model']['round']}: {about['model']['in_words']}"
        )
    lines += ["", f"| class | {TRAIN} | {TEST} |", "|---|---:|---:|"]
    for label in sorted({*counts[TRAIN], *counts[TEST]}):
        lines.append(f"| {_cell(label)} | {counts[TRAIN].get(label, 0):,} | {counts[TEST].get(label, 0):,} |")
    return "\n".join([*lines, "", "`labels.csv` has every crop with its label, and who or what said so.", ""])


def _configs(about: Mapping[str, Any]) -> list[str]:
    is_text = about["kind"] == "text"
    if not is_text and not about["copied"]:
        return []
    splits = [split for split in (TRAIN, TEST) if about["crops"][split]]
    files = [
        line
        for split in splits
        for line in (
            f"      - split: {split}",
            f"        path: {f'{split}.jsonl' if is_text else f'{split}/**'}",
        )
    ]
    return ["---", "configs:", "  - config_name: default", "    data_files:", *files, "---", ""]


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")
