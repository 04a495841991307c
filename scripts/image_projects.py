"""Make a Label Studio project of image files: its labeling config, and its crops under their own names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from rich.markup import escape

from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import ProjectNotFoundError
from everylabel.backend.label_studio.file_names import FILE_NAME
from everylabel.backend.label_studio.required_class import ATTRIBUTES
from everylabel.backend.progress import Progress
from everylabel.backend.store.atomic_write import partial
from everylabel.scripts.console import console, counted
from everylabel.scripts.replay.datasets import Dataset

UPLOAD_FILES, UPLOAD_BYTES = 100, 100_000_000
"""How much one request uploads: Label Studio 1.23.2 takes 100 files, and 250 MB."""
NUMBER = re.compile(r"(?:^|[-/])crop-(\d{6})[-.]")
"""How a crop was named in projects that an earlier demo made, whose tasks do not hold the file's name."""
SKIPPED_NAMED = 5
SHORTEST_TITLE, LONGEST_TITLE = 3, 50
"""What Label Studio takes."""


def label_config(classes: Sequence[str]) -> str:
    """Return a labeling config: an image and one choice, with a key for each class."""
    # A class of one letter or digit is that key; left alone, Label Studio gives the class 0 the key 1.
    own_keys = all(len(name) == 1 for name in classes)
    choices = "".join(
        f"<Choice value={quoteattr(name)}{f' hotkey={quoteattr(name.lower())}' if own_keys else ''}/>"
        for name in classes
    )
    return (
        '<View><Image name="image" value="$image" maxWidth="420px"/>'
        f'<Choices name="label" toName="image" choice="single" showInLine="true" {ATTRIBUTES}>'
        f"{choices}</Choices></View>"
    )


def project_of(client: LabelStudio, memory: Path, name: str, title: str, classes: Sequence[str]) -> int:
    """Return the project that an earlier run has made under this name, or make one.

    Args:
        client: The Label Studio that has the project.
        memory: The file that remembers the projects made.
        name: What the project is remembered by.
        title: The title of a new one; what Label Studio does not take of it is cut off.
        classes: The classes of a new one.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses.
    """
    known: dict[str, int] = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
    if name in known:
        try:
            return int(client.project(known[name])["id"])
        except ProjectNotFoundError:
            pass
    if len(title) < SHORTEST_TITLE:
        title = f"{title}: crops"
    project = client.create_project(title[:LONGEST_TITLE], label_config(classes))
    known[name] = int(project["id"])
    unfinished = partial(memory)
    unfinished.write_text(json.dumps(known), encoding="utf-8")
    unfinished.replace(memory)
    return known[name]


def upload(client: LabelStudio, project_id: int, dataset: Dataset, progress: Progress) -> dict[int, int]:
    """Upload the crops that are missing, under their own names.

    Args:
        client: The Label Studio that has the project.
        project_id: The project.
        dataset: The crops.
        progress: Called with (what, done, total).

    Returns:
        The position in the data set of each task's crop, by the task's id.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses; what is uploaded stays.
        OSError: A file cannot be read any more.
    """
    names = file_names(dataset)
    numbers = _numbers(client, project_id, names)
    missing = sorted(set(range(len(dataset))) - set(numbers.values()))
    done = 0
    for chunk in _chunks(missing, dataset):
        addresses = client.upload_files(
            project_id, [(dataset.images[n].name, dataset.images[n].read_bytes()) for n in chunk]
        )
        client.import_tasks(
            project_id,
            [
                {"data": {"image": address, FILE_NAME: names[n]}}
                for n, address in zip(chunk, addresses, strict=True)
            ],
        )
        done += len(chunk)
        progress("Uploading crops", done, len(missing))
    return _numbers(client, project_id, names) if missing else numbers


def say_what_was_skipped(dataset: Dataset) -> None:
    """Name the first files that are no usable image, and count the rest."""
    for skipped in dataset.skipped[:SKIPPED_NAMED]:
        console.print(f"[yellow]Left out[/] {escape(f'{skipped.path}: {skipped.reason}')}", soft_wrap=True)
    if len(dataset.skipped) > SKIPPED_NAMED:
        console.print(f"[yellow]… and {counted(len(dataset.skipped) - SKIPPED_NAMED, 'more file')}.[/]")


def file_names(dataset: Dataset) -> list[str]:
    """Return each crop's file name, with its folder below the one it came from: `cats/1.jpg`."""
    if dataset.names or not dataset.images:
        return [*dataset.names]
    folder = os.path.commonpath([image.parent for image in dataset.images])
    return [image.relative_to(folder).as_posix() for image in dataset.images]


def _chunks(numbers: Iterable[int], dataset: Dataset) -> Iterator[list[int]]:
    """Yield as many crops at a time as one request may upload."""
    chunk: list[int] = []
    left = UPLOAD_BYTES
    for number in numbers:
        size = dataset.images[number].stat().st_size
        if chunk and (len(chunk) == UPLOAD_FILES or size > left):
            yield chunk
            chunk, left = [], UPLOAD_BYTES
        chunk.append(number)
        left -= size
    if chunk:
        yield chunk


def _numbers(client: LabelStudio, project_id: int, names: Sequence[str]) -> dict[int, int]:
    """Return the position in the data set of each task's crop, by its file's name."""
    place = {name: number for number, name in enumerate(names)}
    found: dict[int, int] = {}
    for task in client.tasks(project_id):
        data = task["data"]
        if data.get(FILE_NAME) in place:
            found[int(task["id"])] = place[data[FILE_NAME]]
        elif FILE_NAME not in data and (match := NUMBER.search(str(data.get("image", "")))):
            found[int(task["id"])] = int(match.group(1))
    return found
