"""Bring the labels of an earlier project into Label Studio: from a table of file names and classes to annotations."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from everylabel.backend.dataset.labelled_crops import PERSON
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.file_names import file_name
from everylabel.backend.label_studio.label_config import ImageChoices
from everylabel.backend.progress import Progress

LABEL_COLUMNS = ("label", "class", "choice")
NAME_COLUMNS = ("file_name", "filename", "file", "image", "path", "name")
TASK_COLUMNS = ("task_id", "task")
SOURCE, PREDICTED_BY = "source", "novelty"
"""Columns that `everylabel dataset` and `everylabel predict` write."""
VERSION = "imported labels"
"""The model version of the predictions that become annotations; they are deleted afterwards."""
CHUNK = 200
"""How many annotations one request writes: about two seconds for Label Studio on SQLite."""
NAMED = 5
CONTRADICTED = "another line gives its crop another label"


class OldLabelsError(ValueError):
    """The labels cannot be brought in; the message says what to do, and nothing was written."""


@dataclass
class OldLabels:
    """The labels of a table, by the name of a crop's file, or by its task where the table names no file."""

    by_name: dict[str, str] = field(default_factory=dict)
    by_task: dict[int, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    """How many lines are left out, by why."""


def read_labels(path: Path) -> OldLabels:
    """Read a table with a header: comma, semicolon or tab between the columns.

    A table that `everylabel dataset` wrote says who gave each label; those no person gave are left out. So are crops
    that it gives two different labels.

    Args:
        path: The file.

    Raises:
        OldLabelsError: It cannot be read, or lacks a column.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OldLabelsError(
            f"{path} cannot be read: {error}. It has to be a table as text, in UTF-8."
        ) from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    lines = csv.DictReader(StringIO(text, newline=""), delimiter=separator)
    columns = {str(name).strip().lower(): name for name in lines.fieldnames or ()}
    if PREDICTED_BY in columns:
        raise OldLabelsError(
            f"{path} holds predictions of a model, written by `everylabel predict`: they are not a person's labels."
        )
    label, name, task = (
        next((columns[one] for one in wanted if one in columns), None)
        for wanted in (LABEL_COLUMNS, NAME_COLUMNS, TASK_COLUMNS)
    )
    if label is None or (name is None and task is None):
        raise OldLabelsError(
            f"{path} needs a header with a column {_alternatives(LABEL_COLUMNS)}, and one {_alternatives(NAME_COLUMNS)} "
            f"with the names of the crops' files (or {_alternatives(TASK_COLUMNS)} with the numbers of this project's "
            "tasks)."
        )
    return _read(lines, label, name, task, columns.get(SOURCE))


def match(labels: OldLabels, names: Mapping[int, str]) -> dict[int, str]:
    """Find the tasks of the labels, by the whole name of a crop's file first, then without its folders.

    What fits no task or several is added to `labels.left_out`.

    Args:
        labels: As read.
        names: The name of the file of each task's crop; empty where it has none.

    Returns:
        The label of each task.
    """
    whole, last = _unique(names, str), _unique(names, _last_part)
    found = {task: label for name, label in labels.by_name.items() if (task := whole.get(name))}
    meant: dict[int, list[str]] = defaultdict(list)
    for name, label in labels.by_name.items():
        if whole.get(name):
            continue
        task = whole.get(name, last.get(_last_part(name)))
        if task is None or task in found:  # another line names that file in full
            labels.left_out["no task has this file"] += 1
        elif not task:
            labels.left_out["several tasks have this file"] += 1
        else:
            meant[task].append(label)
    for task, said in meant.items():
        if len({*said}) == 1:
            found[task] = said[0]
        else:
            labels.left_out[CONTRADICTED] += len(said)
    for task, label in labels.by_task.items():
        if task in names:
            found[task] = label
        else:
            labels.left_out["the project has no such task"] += 1
    return found


def bring_in(
    client: LabelStudio, project_id: int, labels: OldLabels, control: ImageChoices, progress: Progress
) -> int:
    """Submit the labels as annotations of the token's owner; tasks that have an annotation are left as they are.

    A run that was killed is taken up by the next one.

    Args:
        client: The Label Studio that has the project.
        project_id: The project.
        labels: As read; what is left out is counted there.
        control: The labeling config.
        progress: Called with (what, done, total).

    Returns:
        How many annotations were written.

    Raises:
        OldLabelsError: No label fits a task, or the labeling config lacks a class.
        LabelStudioError: Label Studio does not answer, or refuses; what was written stays.
    """
    urls: dict[int, str | None] = {}
    names: dict[int, str] = {}
    for task in client.tasks(project_id, progress=lambda done, total: progress("Reading tasks", done, total)):
        data = task.get("data")
        urls[int(task["id"])] = url = control.crop(data).url
        known = data if isinstance(data, Mapping) else {}
        names[int(task["id"])] = file_name(known, None if control.kind == "text" else url)
    found = match(labels, names)
    if not found:
        raise OldLabelsError(_nothing_fits(labels, names.values()))
    unknown = sorted({label for label in found.values() if not control.knows(label)})
    if unknown:
        raise OldLabelsError(
            f"The labeling config has no class {_listed(unknown)}; it has {_listed(control.classes)}. Add them under "
            "Settings, Labeling Interface, or rename them in the table. Nothing was written."
        )
    return _submit(client, project_id, found, {id_: urls[id_] for id_ in found}, control, labels, progress)


def _read(
    lines: Iterable[Mapping[str, Any]], label: str, name: str | None, task: str | None, source: str | None
) -> OldLabels:
    found = OldLabels()
    contradicted: set[str | int] = set()
    for line in lines:
        said = str(line.get(label) or "").strip()
        key = _key(line, name, task)
        if not said or key is None:
            found.left_out["the line is incomplete"] += 1
        elif source is not None and str(line.get(source) or "").strip() != PERSON:
            found.left_out["no person gave the label"] += 1
        else:
            known: dict[Any, str] = found.by_task if isinstance(key, int) else found.by_name
            if known.setdefault(key, said) != said:
                contradicted.add(key)
    for key in contradicted:
        (found.by_task if isinstance(key, int) else found.by_name).pop(key)  # type: ignore[arg-type]
        found.left_out[CONTRADICTED] += 1
    return found


def _key(line: Mapping[str, Any], name: str | None, task: str | None) -> str | int | None:
    """Return the name of a line's file, or the number of its task; None if it says neither."""
    if name is not None:
        return str(line.get(name) or "").strip().replace("\\", "/").removeprefix("./") or None
    number = str(line.get(str(task)) or "").strip()
    return int(number) if number.isascii() and number.isdigit() else None


def _last_part(name: str) -> str:
    return PurePosixPath(name).name


def _unique(names: Mapping[int, str], part: Callable[[str], str]) -> dict[str, int]:
    """Return the task of each name; 0 where several have it."""
    found: dict[str, int] = {}
    for task, name in names.items():
        if name:
            found[part(name)] = 0 if part(name) in found else task
    return found


def _submit(
    client: LabelStudio,
    project_id: int,
    labels: Mapping[int, str],
    urls: Mapping[int, str | None],
    control: ImageChoices,
    read: OldLabels,
    progress: Progress,
) -> int:
    if VERSION in client.model_versions(project_id):  # a run before this one was killed
        client.delete_predictions(project_id, VERSION)
    written, ids = 0, [*labels]
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        held = client.annotated(project_id, chunk)
        read.left_out["its task is labelled already"] += len(held)
        new = [task for task in chunk if task not in held]
        if new:
            client.import_predictions(
                project_id, [_prediction(id_, labels[id_], control, urls[id_]) for id_ in new]
            )
            client.create_annotations(project_id, new, VERSION)
        written += len(new)
        progress("Bringing in labels", start + len(chunk), len(ids))
    if written:
        client.delete_predictions(project_id, VERSION)
    return written


def _prediction(task: int, label: str, control: ImageChoices, url: str | None) -> dict[str, Any]:
    result = [
        {**region, "origin": "manual", "meta": {"text": [VERSION]}} if region["type"] == "choices" else region
        for region in control.result(label, url=url)
    ]
    return {"task": task, "result": result, "score": 1.0, "model_version": VERSION}


def _nothing_fits(labels: OldLabels, names: Iterable[str]) -> str:
    reasons = "; ".join(f"{count} x {why}" for why, count in labels.left_out.items())
    wanted = [*labels.by_name, *map(str, labels.by_task)]
    held = sorted({name for name in names if name})
    table = f" The table names {_listed(wanted)};" if wanted else ""
    project = f" the project's files are {_listed(held)}." if held else " the project's tasks name no files."
    return f"None of these labels fits a crop of the project ({reasons or 'the table is empty'}).{table}{project}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _alternatives(names: Sequence[str]) -> str:
    return " or ".join((", ".join(f"`{name}`" for name in names[:-1]), f"`{names[-1]}`"))
