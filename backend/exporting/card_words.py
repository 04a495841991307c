"""The card of an exported model in words: `model.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from everylabel.backend.rounds.accuracy import CONTRADICTED, Interval


def in_words(card: Mapping[str, Any]) -> str:
    """Return a card, as `describe` makes it, as a Markdown page."""
    title = card["project"]["title"] or f"project {card['project']['id']}"
    file = card["file"]
    lines = [
        f"# {_plain(title)}: {'a text' if card['reads'] == 'text' else 'an image'} classifier",
        "",
        f"`{file['name']}`, {file['bytes'] / 1e6:.1f} MB, SHA-256 `{file['sha256']}`. Made by everylabel {card['everylabel']} on "
        f"{card['made_at']}, from round {card['round']} of project {card['project']['id']} in Label Studio, which was trained "
        f"on {card['trained_at']}. `{file['name'].removesuffix('.onnx')}.json` says the same for programs.",
        "",
        *_classes(card),
        *_accuracy(card["accuracy"]),
        *_earlier_model(card["earlier_model"]),
        *_calibration(card["calibration"]),
        *_novelty(card["novelty"]),
        "## Encoder",
        "",
        f"`{card['encoder']['name']}`. Licence: {card['encoder']['licence']}.",
        "",
        "## Do not use it for",
        "",
        *(f"- {words}" for words in card["not_for"]),
    ]
    return "\n".join(lines) + "\n"


def _earlier_model(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None:
        return
    name = f"`{found['file']}`, " if found["file"] else ""
    yield (
        f"Part of what it predicts is that of an earlier model, with a share of {found['share']:.0%}: {name}SHA-256 "
        f"`{found['sha256']}`. Who labelled for that one, and how good it was, its own card says."
    )
    yield ""


def _classes(card: Mapping[str, Any]) -> Iterator[str]:
    labels = card["labels"]
    yield from ("## Classes and labels", "")
    yield f"It was trained on {labels['trained_on']:,} labels; the project has {labels['now']:,} now."
    yield from ("", "| class | labels |", "|---|---|")
    yield from (f"| {_plain(name)} | {number:,} |" for name, number in labels["by_class"].items())
    yield ""
    if [*labels["by_class"]] != card["classes"]:
        yield from (f"It answers with one of: {_plain(', '.join(card['classes']))}.", "")
    if labels["by_user"]:
        by = ", ".join(f"{_user(one['user'])}: {one['annotations']:,}" for one in labels["by_user"])
        yield f"Annotations by person (the numbers of Label Studio's users): {by}."
        yield f"The first is of {labels['first']}, the last of {labels['last']}."
    yield f"{labels['check_crops']:,} labels are of blind check crops."
    if labels["accepted_in_bulk"]:
        yield f"{labels['accepted_in_bulk']:,} crops were accepted in bulk: the machine's labels, not among those above."
    yield ""


def _accuracy(found: Mapping[str, Any] | None) -> Iterator[str]:
    yield from ("## Accuracy", "")
    if found is None:
        yield from ("Not measured: it takes ten labels, of two classes.", "")
        return
    whole = Interval(found["estimate"], found["low"], found["high"])
    yield f"{_share(whole)}: {found['how']}."
    check = found["check_crops"]
    if check["n"]:
        yield f"On the blind check crops it was right on {check['correct']} of {check['n']}."
    if found["contradicted"]:
        yield CONTRADICTED
    yield ""
    if found["by_class"]:
        yield from ("| class | of its crops, found | of those taken for it, right |", "|---|---|---|")
        for one in found["by_class"]:
            recall, precision = Interval(**one["recall"]), Interval(**one["precision"])
            yield f"| {_plain(one['name'])} | {_share(recall)} | {_share(precision)} |"
        yield ""
    if found["confusions"]:
        words = [
            f"{_plain(one['name'])} taken for {_plain(one['predicted'])} ({one['share']:.0%} of its crops)"
            for one in found["confusions"]
        ]
        yield from (f"Most frequent mistakes: {'; '.join(words)}.", "")


def _calibration(found: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Calibration", "", f"How confidence was calibrated: {found['how']}.")
    if "n" in found:
        yield (
            f"On {found['n']} blind check crops, confidence was {found['mean_confidence']:.0%} on average and "
            f"{found['right']:.0%} were right (expected calibration error {found['expected_calibration_error']:.2f}; with "
            "few crops, much of it is chance)."
        )
    yield ""


def _novelty(found: Mapping[str, Any] | None) -> Iterator[str]:
    yield from ("## Crops unlike the pool", "")
    if found is None:
        yield from ("The pool has too few crops to tell: the file has no output `novelty`.", "")
        return
    yield (
        f"The output `novelty` is the {found['how']}. Above 1, a crop is unlike all {found['references']:,} of them. The "
        f"threshold was measured on {found['measured_on']:,} other crops of the pool, so that at most "
        f"{found['flagged_at_most']:.0%} of such crops are flagged."
    )
    yield ""


def _share(found: Interval) -> str:
    return f"{found.percent} % (95 % interval {found.low_percent} to {found.high_percent} %)"


def _user(number: int | None) -> str:
    return "unknown" if number is None else f"user {number}"


def _plain(text: str) -> str:
    """Return text of others so that Markdown shows it as it is, on one line."""
    return "".join(
        f"\\{letter}" if letter in r"\`*_[]<>#|!~" else letter for letter in " ".join(text.split())
    )
