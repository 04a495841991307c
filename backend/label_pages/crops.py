"""The crops that a page may be made of, read from the newest round and the map."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.backend.label_pages.choosing import (
    PAGE,
    SHORTLIST,
    PredictedCrops,
    beside_the_first,
    best_class,
    by_frontier,
    choose_of_class,
)
from everylabel.backend.store.label_pages import SECOND_LABELS, SUSPECTS
from everylabel.backend.store.round_snapshot import NO_CLASS

if TYPE_CHECKING:
    from everylabel.backend.label_pages.likeness import SimilarCrops
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import Project, RoundRecord, Store, Task
    from everylabel.backend.store.pool_files import PoolFiles
    from everylabel.backend.store.pool_map import PoolMap

LabelsOf = Callable[[int, Collection[int], Sequence[str]], Mapping[int, str]]
OF_CLASS, NEXT_BATCH, SPOT_CHECK, LIKE, SELECTION = "class", "next-batch", "spot-check", "like", "selection"
WORDS = "words"
KINDS = (OF_CLASS, NEXT_BATCH, SPOT_CHECK, LIKE, SELECTION, WORDS, SUSPECTS, SECOND_LABELS)


@dataclass(frozen=True)
class OpenCrops:
    """The crops of a project that nobody has labelled.

    Args:
        store: Holds the project.
        pool_files: The newest round's predictions, and the map.
        project: The project.
        control: Its labeling config.
        labels_of: Returns the label of each of some tasks, given the project, the tasks and the classes.
    """

    store: Store
    pool_files: PoolFiles
    project: Project
    control: ImageChoices
    labels_of: LabelsOf

    def predicted(self) -> PredictedCrops:
        """Return the crops that have a prediction, without those that are labelled blind: check set and spot check."""
        snapshot, pool_map = self.pool_files.snapshot(self.project.id), self.pool_files.map(self.project.id)
        several = self.control.multiple
        if snapshot is None:
            none = np.zeros(0, dtype=np.int64)
            return PredictedCrops(none, none, none.astype(np.float32), np.zeros((0, 2)), (), several)
        positions = _positions(len(snapshot.tasks), pool_map)
        offered = np.array([*(self.control.knows(label) for label in snapshot.classes), False])
        codes = np.minimum(snapshot.predicted, len(snapshot.classes)).astype(np.int64)
        usable = (snapshot.tasks > 0) & (snapshot.predicted != NO_CLASS) & offered[codes]
        every = PredictedCrops(
            snapshot.tasks, codes, snapshot.confidence, positions, snapshot.classes, several
        )
        return every.at(usable).without(self._not_offered())

    def of_class(
        self, crops: PredictedCrops, wanted: str | None, taken: set[int]
    ) -> tuple[str | None, list[int]]:
        """Return the class and the tasks of a page of crops of one class, none of which is taken.

        Args:
            crops: Every crop that is open.
            wanted: The class; the one with the most confident crops if None.
            taken: Tasks that are on other pages.
        """
        free = crops.without(taken)
        name = wanted or best_class(free, self.control.classes)
        if name is None:
            return None, []
        free = free.of(name)
        shortlist = free.at(by_frontier(free.confidence)[:SHORTLIST])
        readable = {*self._readable(shortlist.tasks.tolist())}
        return name, choose_of_class(shortlist.at(np.isin(shortlist.tasks, [*readable])))

    def like(self, similar: SimilarCrops, taken: set[int]) -> tuple[None, list[int]]:
        """Return the tasks of a page of the crops most similar to one, or to words, none of which is taken; itself first, if it is open.

        Args:
            similar: How similar each crop is to it, or to them.
            taken: Tasks that are on other pages.
        """
        from everylabel.model.similarity import most_similar  # noqa: PLC0415 - takes long to load

        asked = {*self.store.asked_next(self.project.id)}  # nearest again: they are on their way to somebody
        passed_over, wanted = self._not_offered() | taken | asked, SHORTLIST
        while True:
            rows = most_similar(similar.similarity, wanted)
            row_of = {int(similar.tasks[row]): int(row) for row in rows if similar.tasks[row]}
            offered = [task for task in row_of if task not in passed_over][:SHORTLIST]
            # A crop that was embedded anew since lies in another row.
            found = {task.id for task in self._found(offered) if task.embedding_row == row_of[task.id]}
            page = [task for task in offered if task in found][:PAGE]
            if len(page) == PAGE or wanted >= len(similar.tasks):
                return None, page
            wanted *= 8

    def selected(self, tasks: Sequence[int], taken: set[int]) -> tuple[None, list[int]]:
        """Return the tasks of a page of those that somebody has selected: the first that is free, and those beside it on the map.

        Args:
            tasks: What they selected; crops that people may not be asked for are left out.
            taken: Tasks that are on other pages.
        """
        passed_over = taken | {*self.store.asked_next(self.project.id)}
        free = self.offered([task for task in tasks if task not in passed_over])
        if not free:
            return None, []
        snapshot, pool_map = self.pool_files.snapshot(self.project.id), self.pool_files.map(self.project.id)
        at: dict[int, NDArray[Any]] = {}
        if snapshot is not None:
            rows = np.flatnonzero(np.isin(snapshot.tasks, free))
            where = _positions(len(snapshot.tasks), pool_map)[rows]
            at = dict(zip(snapshot.tasks[rows].tolist(), where, strict=True))
        nowhere = np.full(2, np.nan)
        positions = np.array([at.get(task, nowhere) for task in free])
        return None, [free[place] for place in beside_the_first(positions)]

    def suspects(self, taken: set[int]) -> tuple[None, list[int]]:
        """Return the tasks whose label the newest round suspects to be wrong, the most suspicious first."""
        wanted = [task for task in self.suspected() if task not in taken]
        return None, self._readable(wanted)[:PAGE]

    def suspected(self) -> list[int]:
        """Return the tasks with a suspect label, the most suspicious first, without those of which another person is asked.

        As in the tab: the suggestion would lead that person. Those come back once they have their label.
        """
        latest = self.store.latest_round(self.project.id)
        asked = {*(latest.second_labels if latest else ())}
        return [task for task in self.suggested() if task not in asked]

    def second_labels(self, annotator: int, taken: set[int]) -> tuple[None, list[int]]:
        """Return the tasks of which one more label would tell most, that this person has not labelled, the most useful first."""
        wanted = [task for task in self.worth_another_label(annotator) if task not in taken]
        return None, self._readable(wanted)[:PAGE]

    def worth_another_label(self, annotator: int) -> list[int]:
        """Return the tasks labelled by others of which one more label would tell most (ActiveLab, 2301.11856), those first.

        The labels are those of the newest round; nothing is known while no two people disagree on a crop. The crops of a spot
        check are left out: their first label is what the certificate counts.
        """
        snapshot = self.pool_files.snapshot(self.project.id)
        wanted = () if snapshot is None else snapshot.second_labels
        if not wanted:
            return []
        looks = self.store.looked_at(self.project.id)
        wanted = tuple(task for task in wanted if task not in looks)
        given = self.labels_of(self.project.id, wanted, self.control.classes)
        annotations = self.store.annotations_of(self.project.id, wanted)
        own = {annotation.task_id for annotation in annotations if annotation.annotator == annotator}
        return [task for task in wanted if task in given and task not in own]

    def suggested(self) -> dict[int, tuple[str, str]]:
        """Return the label and the label suggested instead of each task with a suspect one, the most suspicious first."""
        snapshot = self.pool_files.snapshot(self.project.id)
        suspected = {} if snapshot is None else {one.task_id: one for one in snapshot.suspected}
        classes, kept = self.control.classes, self.store.kept_reviews(self.project.id)
        given = self.labels_of(self.project.id, suspected, classes)
        return {
            task: (one.given, one.suggested)
            for task, one in suspected.items()
            if given.get(task) == one.given != kept.get(task) and self.control.knows(one.suggested)
        }

    def asked_for(self, kind: str, taken: set[int]) -> tuple[None, list[int]]:
        """Return the tasks that people are asked for next: of the spot check, or as *Label All Tasks* serves them."""
        latest = self.store.latest_round(self.project.id)
        if latest is None:
            return None, []
        wanted = latest.spot_check if kind == SPOT_CHECK else _in_order(latest)
        closed = self.store.annotated_tasks(self.project.id) | taken
        return None, self._readable([task for task in dict.fromkeys(wanted) if task not in closed])[:PAGE]

    def offered(self, tasks: Sequence[int]) -> list[int]:
        """Return those of these tasks that people may be asked for on the page, in their order."""
        closed = self._not_offered()
        return self._readable([task for task in dict.fromkeys(tasks) if task not in closed])

    def _readable(self, tasks: list[int]) -> list[int]:
        """Return those of these tasks that exist and whose crop can be read, in their order."""
        found = {task.id for task in self._found(tasks)}
        return [task for task in tasks if task in found]

    def _found(self, tasks: list[int]) -> list[Task]:
        return [task for task in self.store.tasks(self.project.id, tasks) if task.problem is None]

    def _not_offered(self) -> set[int]:
        """Return the tasks that nobody is asked for on a page of ours: annotated, or labelled blind."""
        latest = self.store.latest_round(self.project.id)
        blind = {*self.project.check_tasks, *(latest.spot_check if latest else ())}
        return self.store.annotated_tasks(self.project.id) | blind


def _positions(n: int, pool_map: PoolMap | None) -> NDArray[Any]:
    """Return where the crop of each row lies on the map: (n, 2), NaN where it is not on it."""
    positions = np.full((n, 2), np.nan, dtype=np.float32)
    if pool_map is not None:
        known = min(n, len(pool_map.positions))
        positions[:known] = pool_map.positions[:known]
    return positions


def _in_order(latest: RoundRecord) -> tuple[int, ...]:
    return (*latest.queue, *latest.reserve)
