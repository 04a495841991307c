"""Write a data set into a folder: whole or not at all, and named by a digest of its labels."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock, Timeout
from PIL import Image

from everylabel.backend.dataset import hugging_face, manifest, readme
from everylabel.backend.dataset.coco import write_coco
from everylabel.backend.dataset.crop_files import Fetched, fetch_crops, suffix_of
from everylabel.backend.dataset.folders import (
    ABOUT,
    COCO,
    FORMAT,
    SPLITS,
    DatasetError,
    add_digests,
    check_folder,
    find_same,
)
from everylabel.backend.dataset.labelled_crops import LabelledCrop, Parts, digest, read_crops
from everylabel.backend.dataset.manifest import Links
from everylabel.backend.dataset.safe_names import Taken, safe_name
from everylabel.backend.label_studio import crop_shapes, label_config
from everylabel.backend.rounds.accuracy import accuracy_of

if TYPE_CHECKING:
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.progress import Progress
    from everylabel.backend.settings import Settings

OLD = "old"
"""What the folder held, beside it while the new data set takes its place."""


class _Parts(Parts, Protocol):
    """The parts of a backend that exporting uses."""

    @property
    def settings(self) -> Settings: ...
    @property
    def reader(self) -> ImageReader: ...
    @property
    def clock(self) -> Callable[[], float]: ...


@dataclass(frozen=True)
class Options:
    """The labels that are exported, and how."""

    level: str
    """The labels: one of `labelled_crops.LEVELS`."""
    copy: bool = False
    """Fetch the crops into class folders."""
    replace: bool = False
    """Take the place of an older data set in the folder."""
    names: bool = False
    """Name annotators as Label Studio does; otherwise by number."""


@dataclass(frozen=True)
class Exported:
    """The data set that is in the folder now."""

    about: dict[str, Any]
    crops: tuple[LabelledCrop, ...]
    problems: dict[int, str]
    """The crops without a file or an address that leads to one, by task, and why."""
    was_there: bool = False
    """True if the folder held these labels already and nothing was written."""


def export(
    parts: _Parts, project_id: int, folder: Path, options: Options, progress: Progress | None = None
) -> Exported:
    """Write the data set of a project into a folder, which appears when it is whole.

    What was fetched before an interruption is kept beside the folder, and the next run goes on from there.

    Args:
        parts: The backend, whose store is up to date.
        project_id: The project.
        folder: A new folder, an empty one, one with the same labels, or one with an older data set and
            `options.replace`.
        options: What is exported, and how.
        progress: Called with (what, done, total).

    Raises:
        NothingLabelledError: There is no label to export.
        DatasetError: The folder cannot be written, or holds what would be lost, or no crop can be fetched.
        LabelConfigError: Nothing in the labeling config is learned.
        LabelStudioError: Label Studio does not answer, or refuses.
    """
    folder = folder.resolve()  # a link to a folder stays one
    check_folder(folder, replace=options.replace)
    crops = read_crops(parts, project_id, options.level, progress, names=options.names)
    about = _about(parts, project_id, crops, options)
    try:
        if (held := _require_free(folder, about, options)) is not None:
            return Exported(held, tuple(crops), {}, was_there=True)
        with _work_folder(folder) as work:
            fetched = Fetched()
            if about["copied"]:
                threads = parts.settings.download_threads
                fetched = fetch_crops(parts.reader, crops, work / "fetched", threads, progress)
                _require_some(crops, fetched)
            done = _Writing(parts, project_id, work / "export", about, crops, fetched).write()
            # What is in the folder may have changed while crops were fetched.
            if (held := _require_free(folder, about, options)) is not None:
                return Exported(held, tuple(crops), {}, was_there=True)
            _put_in_place(work, folder)
    except OSError as error:
        work = _work_path(folder)
        raise DatasetError(
            f"The data set could not be written: {error}. "
            + (
                f"What {folder} held is in {work / OLD}: run it again, and it is put back."
                if _is_taken_away(work, folder)
                else f"What was fetched is kept: run it again, or delete {work}."
            )
        ) from error
    return done


def _require_free(folder: Path, about: dict[str, Any], options: Options) -> dict[str, Any] | None:
    """Check that nothing is lost if a folder is written anew; return what is in it if it is what is asked for."""
    check_folder(folder, replace=options.replace)
    if options.replace or not (folder / ABOUT).exists():
        return None
    return find_same(folder, about)


def _about(parts: _Parts, project_id: int, crops: Sequence[LabelledCrop], options: Options) -> dict[str, Any]:
    held = parts.label_studio.project(project_id)
    project, mark = parts.store.project(project_id), digest(crops)
    number = None if project is None else project.model_round
    served = None if number is None else parts.store.round(project_id, number)
    accuracy = None if served is None else accuracy_of(served)
    control = label_config.parse("" if project is None else project.label_config)
    return {
        "format": FORMAT,
        "name": f"{safe_name(str(held.get('title') or 'project'), 'project')}-{mark[:8]}",
        "digest": mark,
        "project": project_id,
        "title": held.get("title"),
        "project_created_at": held.get("created_at"),
        "made_at": datetime.fromtimestamp(parts.clock(), timezone.utc).isoformat(timespec="seconds"),
        "everylabel": version("everylabel"),
        "labels": options.level,
        "names": options.names,
        "copied": options.copy and control.kind != "text",
        "kind": control.kind,
        "classes": list(control.classes),
        "crops": {
            split: dict(sorted(Counter(crop.label for crop in crops if crop.split == split).items()))
            for split in SPLITS
        },
        "sources": dict(sorted(Counter(crop.source for crop in crops).items())),
        "suspected": sum(crop.suspected for crop in crops),
        "model": None
        if accuracy is None
        else {"round": number, "accuracy": asdict(accuracy), "in_words": accuracy.in_words()},
    }


def _require_some(crops: Sequence[LabelledCrop], fetched: Fetched) -> None:
    if fetched.problems and not fetched.crops:
        first, reason = next(iter(fetched.problems.items()))
        raise DatasetError(
            f"None of the {len(crops)} crops could be fetched; of task {first}: {reason}. Without --copy the data set "
            "names their addresses alone."
        )


def _work_path(folder: Path) -> Path:
    folder = folder.absolute()
    return folder.with_name(f".{folder.name}.unfinished")


@contextmanager
def _work_folder(folder: Path) -> Iterator[Path]:
    """Hold the folder beside the data set's in which it is made; if that is interrupted, what was fetched stays."""
    work = _work_path(folder)
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise DatasetError(f"Another export into {folder} is under way.") from error
    done = False
    try:
        _put_back(work, folder)
        yield work
        done = True
    finally:
        if done or not (_is_taken_away(work, folder) or any((work / "fetched").glob("*"))):
            shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _put_in_place(work: Path, folder: Path) -> None:
    """Let the data set that was written take the place of what is in the folder, or leave that as it is."""
    shutil.rmtree(work / OLD, ignore_errors=True)
    try:
        if folder.exists():
            folder.rename(work / OLD)
        (work / "export").rename(folder)
    except BaseException:
        _put_back(work, folder)
        raise


def _put_back(work: Path, folder: Path) -> None:
    """Give a folder back what it held, if a run ended between taking that away and putting the new one there."""
    if _is_taken_away(work, folder):
        (work / OLD).rename(folder)


def _is_taken_away(work: Path, folder: Path) -> bool:
    return (work / OLD).exists() and not folder.exists()


class _Writing:
    """Write one data set into a new folder."""

    def __init__(
        self,
        parts: _Parts,
        project_id: int,
        folder: Path,
        about: dict[str, Any],
        crops: Sequence[LabelledCrop],
        fetched: Fetched,
    ) -> None:
        self._control: ImageChoices = label_config.parse(
            getattr(parts.store.project(project_id), "label_config", "")
        )
        self._links = Links(parts.settings.label_studio_browser_url, project_id)
        self._folder, self._about, self._crops, self._fetched = folder, about, crops, fetched

    def write(self) -> Exported:
        """Write every file."""
        shutil.rmtree(self._folder, ignore_errors=True)  # of a run that was broken off
        self._folder.mkdir(parents=True)
        paths = self._place_crops()
        problems = {
            crop.task_id: crop.problem for crop in self._crops if crop.problem
        } | self._fetched.problems
        rows = [
            manifest.row(crop, paths.get(crop.task_id), problems.get(crop.task_id), self._links)
            for crop in self._crops
        ]
        manifest.write(self._folder, rows)
        for split in SPLITS:
            self._write_split(split, rows)
        about = {**self._about, "problems": len(problems)}
        (self._folder / "README.md").write_text(readme.text(about), encoding="utf-8")
        about = add_digests(self._folder, about)
        (self._folder / ABOUT).write_text(
            json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        return Exported(about, tuple(self._crops), problems)

    def _place_crops(self) -> dict[int, str]:
        """Put each fetched crop into the folder of its split and its class; return its path there, by task."""
        taken, folders, paths = Taken(), dict[str, str](), dict[int, str]()
        order = {name: n for n, name in enumerate(self._control.classes)}
        for label in sorted(
            {crop.label for crop in self._crops}, key=lambda name: (order.get(name, len(order)), name)
        ):
            folders[label] = taken.free("", safe_name(label))
        for crop in self._crops:
            source = self._fetched.crops.get(crop.task_id)
            if source is None:
                continue
            name = PurePosixPath(crop.file_name.replace("\\", "/")).name or f"task-{crop.task_id}"
            suffix = suffix_of(source, name)
            stem = safe_name(name.removesuffix(PurePosixPath(name).suffix))
            folder = f"{crop.split}/{folders[crop.label]}"
            paths[crop.task_id] = f"{folder}/{taken.free(folder, stem, suffix, crop.task_id)}"
            _place(source, self._folder / paths[crop.task_id])
        return paths

    def _write_split(self, split: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write what other tools read of one split."""
        of_it = [row for row in rows if row["split"] == split]
        if self._control.kind == "text" and of_it:
            texts = {crop.task_id: crop.text for crop in self._crops}
            with_text = [
                {**row, "text": texts[row["task_id"]]} for row in of_it if texts[row["task_id"]] is not None
            ]
            hugging_face.write_texts(self._folder / f"{split}.jsonl", with_text)
        if copied := [row for row in of_it if row["path"]]:
            labels = {crop.label for crop in self._crops}
            hugging_face.write_metadata(self._folder / split, copied, labels)
            if self._fetched.pictures:
                self._write_coco(split)

    def _write_coco(self, split: str) -> None:
        folder, pictures, taken = self._folder / COCO, {}, Taken()
        name_of = {
            crop_shapes.split(crop.url or "")[0]: PurePosixPath(crop.file_name).name
            for crop in reversed(self._crops)
        }
        shapes = [crop_shapes.split(crop.url or "") for crop in self._crops if crop.split == split]
        of_it = {address for address, shape in shapes if shape is not None}
        for address, source in self._fetched.pictures.items():
            own = name_of[address] or source.name
            stem = safe_name(own.removesuffix(PurePosixPath(own).suffix))
            name = f"pictures/{taken.free('', stem, suffix_of(source, own))}"
            if address not in of_it:
                continue
            if not (folder / name).exists():
                _place(source, folder / name)
            with Image.open(source) as picture:
                pictures[address] = (name, picture.size)
        crops = ((crop, self._control.names(crop.label)) for crop in self._crops if crop.split == split)
        write_coco(folder / f"{split}.json", crops, pictures, self._control.classes)


def _place(source: Path, target: Path) -> None:
    """Put a fetched file where it belongs, as another name of it where the file system has such."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
