"""Compare two exported data sets: the labels that came, went and changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everylabel.backend.dataset import manifest
from everylabel.backend.dataset.folders import DatasetError, read_about


@dataclass(frozen=True)
class Changed:
    """A label that differs between two data sets; `before` or `after` is None where there is none."""

    task_id: int
    file_name: str
    before: dict[str, str] | None
    after: dict[str, str] | None
    """Its label, split and source."""

    @property
    def kind(self) -> str:
        """Return `came`, `went`, or the first that differs: `label`, `split` or `source`."""
        if self.before is None or self.after is None:
            return "came" if self.before is None else "went"
        return next(name for name in _COMPARED if self.before[name] != self.after[name])


_COMPARED = ("label", "split", "source")


def compare(before: Path, after: Path) -> list[Changed]:
    """Return every label that differs, by task.

    Args:
        before: The folder of one data set.
        after: The folder of the other.

    Raises:
        DatasetError: One is not a data set, or they are of different projects.
    """
    first, second = read_about(before), read_about(after)
    if any(first.get(name) != second.get(name) for name in ("project", "project_created_at")):
        raise DatasetError(
            f"{before} is of project {first.get('project')} ({first.get('title')}), and {after} of another one, project "
            f"{second.get('project')} ({second.get('title')}): their tasks are not the same crops."
        )
    here, there = _labels(before), _labels(after)
    found = []
    for task_id in sorted(here.keys() | there.keys()):
        one, other = here.get(task_id), there.get(task_id)
        if one is None or other is None or any(one[name] != other[name] for name in _COMPARED):
            name = (other or one or {}).get("file_name", "")
            found.append(Changed(task_id, name, _compared(one), _compared(other)))
    return found


def _labels(folder: Path) -> dict[int, dict[str, str]]:
    try:
        return {int(row["task_id"]): row for row in manifest.read(folder)}
    except (OSError, ValueError) as error:
        raise DatasetError(f"{folder} is a damaged data set ({error}). Export it again.") from error


def _compared(row: dict[str, Any] | None) -> dict[str, str] | None:
    return None if row is None else {name: row[name] for name in _COMPARED}
