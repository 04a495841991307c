"""`everylabel dataset`: export what is labelled as a data set, and compare two exports."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from everylabel.backend.bootstrap import build
from everylabel.backend.dataset import comparison
from everylabel.backend.dataset.comparison import Changed
from everylabel.backend.dataset.export import Exported, Options, export
from everylabel.backend.dataset.folders import DatasetError, check_folder, read_about
from everylabel.backend.dataset.labelled_crops import (
    ACCEPTED,
    CERTIFICATE,
    PERSON,
    PSEUDO_LABEL,
    TEST,
    TRAIN,
    NothingLabelledError,
)
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, errors, fail, progress
from everylabel.scripts.project_errors import exit_on_errors, where_unknown

NAMED = 5
"""How many broken crops are named; the manifest has all."""
_SAID_BY = {
    PERSON: "by people",
    CERTIFICATE: "by the model under a certificate",
    ACCEPTED: "by the model, accepted in bulk",
    PSEUDO_LABEL: "pseudo-labels",
}
SHOWN = 50
"""How many differences the table shows; `--json` has all."""


def run(project: int, folder: Path, *, labels: str, copy: bool, replace: bool, names: bool) -> None:
    """Export the labels of a project into a folder, and say what is in it."""
    try:
        check_folder(folder, replace=replace)
        backend = build(load_settings())
        with exit_on_errors(backend, project), progress() as report:
            backend.loop.sync(project, report)
            done = export(backend, project, folder, Options(labels, copy, replace, names), report)
    except NothingLabelledError as error:
        fail(f"{error}{where_unknown(backend, project)}")
    except DatasetError as error:
        fail(error)
    _say(done, folder)


def _say(done: Exported, folder: Path) -> None:
    """Say what the folder holds."""
    about = done.about
    if done.was_there:
        console.print(
            f"{folder} holds these labels already ({about['name']}): nothing was written.", markup=False
        )
        return
    said = ", ".join(f"{n:,} {_SAID_BY[source]}" for source, n in about["sources"].items())
    console.print(f"{about['name']}: {said}", markup=False, highlight=False, soft_wrap=True)
    console.print(_table(done))
    for task, why in islice(done.problems.items(), NAMED):
        errors.print(f"[yellow]Left out[/] task {task}: {escape(why)}", soft_wrap=True)
    if len(done.problems) > NAMED:
        errors.print(f"[yellow]… and {counted(len(done.problems) - NAMED, 'more crop')}[/]: see labels.csv.")
    if not about["crops"][TEST]:
        console.print("[yellow]There is no test set yet[/]: no blind check crop is labelled.")
    console.print(f"Wrote {folder}: digest {about['digest']}", markup=False, highlight=False, soft_wrap=True)


def _table(done: Exported) -> Table:
    """Return a table of the crops by class and split."""
    crops = done.about["crops"]
    shown = Table()
    shown.add_column("class")
    for split in (TRAIN, TEST):
        shown.add_column(split, justify="right")
    for label in sorted({*crops[TRAIN], *crops[TEST]}):
        shown.add_row(escape(label), str(crops[TRAIN].get(label, 0)), str(crops[TEST].get(label, 0)))
    shown.add_section()
    shown.add_row("all", str(sum(crops[TRAIN].values())), str(sum(crops[TEST].values())))
    return shown


def compare(before: Path, after: Path, *, as_json: bool) -> None:
    """Print the labels that differ between two data sets."""
    try:
        found = comparison.compare(before, after)
        digests = [read_about(folder)["digest"] for folder in (before, after)]
    except DatasetError as error:
        fail(error)
    counts = Counter(one.kind for one in found)
    if as_json:
        said = {
            "before": digests[0],
            "after": digests[1],
            "counts": {kind: counts[kind] for kind in ("came", "went", "label", "split", "source")},
            "differences": [{"kind": one.kind, **asdict(one)} for one in found],
        }
        sys.stdout.write(json.dumps(said, indent=2, ensure_ascii=False) + "\n")
        return
    if not found:
        console.print(f"The labels are the same: {digests[0]}.")
        return
    console.print(_differences(found))
    if len(found) > SHOWN:
        console.print(f"… and {counted(len(found) - SHOWN, 'more difference')}: --json has all.")
    console.print(
        f"{counts['came']} came, {counts['went']} went, {counts['label']} changed; {counts['split']} moved to the other "
        f"split, and of {counts['source']} only who said so is another."
    )


def _differences(found: list[Changed]) -> Table:
    shown = Table()
    for column in ("task", "file", "", "before", "after"):
        shown.add_column(column, justify="right" if column == "task" else "left")
    for one in found[:SHOWN]:
        shown.add_row(
            str(one.task_id), escape(one.file_name), one.kind, _words(one.before), _words(one.after)
        )
    return shown


def _words(side: dict[str, str] | None) -> str:
    return "" if side is None else escape(f"{side['label']} ({side['split']}, {side['source']})")
