"""Pages of crops for the people who label: give one to a person, take the confirmation in, undo the last."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from everylabel.backend.label_pages.crops import (
    KINDS,
    LIKE,
    OF_CLASS,
    SELECTION,
    SPOT_CHECK,
    WORDS,
    LabelsOf,
    OpenCrops,
)
from everylabel.backend.label_pages.glance import is_too_fast
from everylabel.backend.label_pages.likeness import NotComparableError
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.store.asked_next import MOST, TooManyAskedError
from everylabel.backend.store.fast_pages import CONFIRMED
from everylabel.backend.store.label_pages import OF_LABELLED, SECOND_LABELS, SUSPECTS, UNDONE, Review
from everylabel.model import label_set

if TYPE_CHECKING:
    from everylabel.backend.label_pages.likeness import Likeness, SimilarCrops
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import LabelPage, Person, Project, Store
    from everylabel.backend.store.label_pages import Choose, Preset
    from everylabel.backend.store.pool_files import PoolFiles

Given = str | list[str]
"""A class, or a list of them where a crop may have several."""
PAGES_AT_A_TIME = 12
"""Pages that one person may have and not have confirmed, in all their windows; the oldest are given back first."""


class PageError(RuntimeError):
    """A page cannot be given or confirmed; the message says why and the way out."""


class UnknownPageError(PageError):
    """There is no such page of this person's in this project."""


class NotLabelledHereError(PageError):
    """The project cannot be labelled on pages; the message says where it is."""


@dataclass(frozen=True)
class Progress:
    """The state of a project for the person who labels it."""

    classes: tuple[str, ...]
    """The classes of the labeling config."""
    several: bool
    """Whether a crop may have several of them."""
    open: Mapping[str, int]
    """How many open crops are predicted to be of each class."""
    spot_check: int
    """How many crops of a spot check wait."""
    suspects: int
    """How many labels are suspected to be wrong."""
    has_model: bool


class Pages:
    """Pages of every project.

    Args:
        store: Keeps them.
        pool_files: The newest round's predictions, and the map.
        likeness: Compares crops with one of them, or with words.
        labels_of: Returns the label of each of some tasks, given the project, the tasks and the classes.
    """

    def __init__(self, store: Store, pool_files: PoolFiles, likeness: Likeness, labels_of: LabelsOf) -> None:
        self._labels_of = labels_of
        self._store = store
        self._pool_files = pool_files
        self._likeness = likeness

    def control(self, project_id: int) -> ImageChoices:
        """Return the labeling config of a project that can be labelled on pages.

        Raises:
            NotLabelledHereError: It cannot be read.
        """
        return _control(self._project(project_id))

    def progress(self, project_id: int) -> Progress:
        """Return how much of a project is open.

        Raises:
            NotLabelledHereError: The project cannot be labelled on pages.
        """
        project = self._project(project_id)
        crops = self._open(project)
        return Progress(
            classes=crops.control.classes,
            several=crops.control.multiple,
            open=crops.predicted().counts(),
            spot_check=len(crops.asked_for(SPOT_CHECK, set())[1]),
            suspects=len(crops.suspected()),
            has_model=project.model_round is not None,
        )

    def second_labels(self, project_id: int, person: Person) -> int:
        """Return how many crops that others have labelled are worth a label of this person's, too.

        Raises:
            NotLabelledHereError: The project cannot be labelled on pages.
        """
        return len(self._open(self._project(project_id)).worth_another_label(person.id))

    def give(
        self,
        project_id: int,
        person: Person,
        kind: str,
        class_name: str | None = None,
        like: int | None = None,
        selected: Sequence[int] = (),
        words: str | None = None,
    ) -> LabelPage | None:
        """Give a person a page that nobody else has.

        Args:
            project_id: The project.
            person: The person.
            kind: One of `KINDS`.
            class_name: The class of a page of that kind; the one with the most confident crops if None.
            like: The task whose crop those of a page of that kind are most similar to.
            selected: The tasks that a page of that kind is made of.
            words: What the crops of a page of that kind are most similar to.

        Returns:
            The page; None if no crop is left for it.

        Raises:
            PageError: There is no such kind or class, nothing can be compared with that crop or those words, or the project
                cannot be labelled on pages.
        """
        crops = self._open(self._project(project_id))
        self._likeness.prepare(project_id)
        by = {LIKE: like is not None, WORDS: words is not None}
        if kind not in KINDS or by != {one: one == kind for one in by}:
            raise PageError("There is no such kind of page. Load the page again.")
        if class_name is not None and class_name not in crops.control.classes:
            raise PageError(f"The labeling config has no class {class_name!r}. Choose another.")
        held = [page.id for page in self._store.reserved_pages(project_id, person.id)]
        self._store.release_pages(project_id, person.id, held[: 1 - PAGES_AT_A_TIME])
        choose: Choose = partial(crops.asked_for, kind)
        preset: Preset | None = None
        if kind == OF_CLASS:
            predicted = crops.predicted()
            choose, preset = partial(crops.of_class, predicted, class_name), predicted.labels
        if kind == SUSPECTS:
            choose = crops.suspects
        if kind == SELECTION:
            choose = partial(crops.selected, selected)
        if kind == SECOND_LABELS:
            choose = partial(crops.second_labels, person.id)
        if like is not None or words is not None:
            choose = partial(crops.like, self._similar(project_id, like, words))
        return self._store.reserve_page(project_id, person.id, kind, choose, like, preset)

    def searched_by_words(self, project_id: int) -> bool:
        """Return whether crops of this project can be found by words."""
        return self._likeness.reads_words(project_id)

    def _similar(self, project_id: int, like: int | None, words: str | None) -> SimilarCrops:
        try:
            if like is not None:
                return self._likeness.to(project_id, like)
            return self._likeness.to_words(project_id, words or "")
        except NotComparableError as error:
            raise PageError(str(error)) from error

    def resume(self, project_id: int, person: Person, page_id: str) -> LabelPage | None:
        """Give a person a page of theirs once more, as their browser asks after it was loaded again.

        Returns:
            The page; None if it is confirmed, or its crops are not free any more.
        """
        return self._store.resume_page(project_id, person.id, page_id)

    def give_back(self, project_id: int, person: Person, page_ids: Collection[str] | None = None) -> None:
        """Take pages that a person does not want to label; all of theirs if None."""
        self._store.release_pages(project_id, person.id, page_ids)

    def confirm(
        self, project_id: int, person: Person, page_id: str, given: Mapping[int, Given], seconds: float
    ) -> LabelPage:
        """Store the labels of a page, and have the next round learn from them; a second time changes nothing.

        Args:
            project_id: The project.
            person: The person.
            page_id: The page.
            given: The class of each task that is not left out; a list of them where a crop may have several.
            seconds: How long the person looked at the page, by their browser.

        Returns:
            The page, as it is stored.

        Raises:
            PageError: The page is not this person's, was undone, or a label is not possible any more.
        """
        page = self._store.page(project_id, person.id, page_id)
        if page is None:
            raise UnknownPageError("This page of crops is not known any more. Load the page again.")
        if page.state == UNDONE:
            raise PageError("This page was undone. Load the page again.")
        if page.state == CONFIRMED:
            return page
        control = self.control(project_id)
        labels = _labels(given, control)
        if labels.keys() - {*page.tasks}:
            raise PageError("These labels are of crops that are not on this page. Load the page again.")
        reviews = {} if page.kind not in OF_LABELLED else self._reviews(page, control.classes)
        if page.kind == SUSPECTS and (gone := sorted(labels.keys() - reviews)):
            raise PageError(
                f"The label of task {', '.join(map(str, gone))} is gone meanwhile. Leave it out, and confirm the page again."
            )
        confirmed = self._store.confirm_page(page, labels, seconds, is_too_fast, reviews)
        if labels:
            self._store.add_event(project_id, "START_TRAINING", {})
        return confirmed

    def ask_next(self, project_id: int, person: Person, task_ids: Sequence[int]) -> int:
        """Have crops stand at the head of Label Studio's queue, from the next round until they are labelled.

        A crop that is annotated by now, labelled blind or gone is left out. Asked for twice, one is there once.

        Returns:
            How many of them are asked for now.

        Raises:
            PageError: Too many wait already, or the project cannot be labelled on pages.
        """
        wanted = self._open(self._project(project_id)).offered(task_ids)
        try:
            self._store.ask_next(project_id, person.id, wanted)
        except TooManyAskedError as error:
            raise PageError(
                f"{MOST} crops may be asked for at a time, and that many wait already. Label some of them in Label Studio first."
            ) from error
        if wanted:
            self._store.add_event(project_id, "START_TRAINING", {})
        return len(wanted)

    def withdraw(self, project_id: int, task_ids: Sequence[int]) -> None:
        """Ask for crops no more that somebody has asked for."""
        self._store.forget_asked(project_id, task_ids)
        self._store.add_event(project_id, "START_TRAINING", {})

    def undo(self, project_id: int, person: Person, page_id: str | None = None) -> LabelPage | None:
        """Take the last page of a person back and give it to them once more; None if they have none.

        Args:
            project_id: The project.
            person: The person.
            page_id: The id of the page they are given; a second time with the same takes nothing more back.

        Raises:
            NotLabelledHereError: The project cannot be labelled on pages.
        """
        self.control(project_id)
        page = self._store.undo_page(project_id, person.id, page_id)
        if page is not None:
            self._store.add_event(project_id, "START_TRAINING", {})
        return page

    def suggested(self, page: LabelPage) -> dict[int, tuple[str, str | None]]:
        """Return the label of each crop of a page of suspect labels, and what is suggested instead."""
        crops = self._open(self._project(page.project_id))
        suggested = crops.suggested()
        given = self._labels_of(page.project_id, page.tasks, crops.control.classes)
        return {task: suggested.get(task, (label, None)) for task, label in given.items()}

    def label_of_like(self, page: LabelPage) -> str | None:
        """Return the label of the crop that those of a page are like; None if it has none, or the person is asked for a second one."""
        crops = self._open(self._project(page.project_id))
        if page.like is None or page.like in crops.worth_another_label(page.annotator):
            return None
        return self._labels_of(page.project_id, [page.like], crops.control.classes).get(page.like)

    def _reviews(self, page: LabelPage, classes: Sequence[str]) -> dict[int, Review]:
        """Return what a person reviews on a page: the label of each crop, and their own annotation of it.

        Of a page of second labels there is none of theirs: one that they made meanwhile is not changed.
        """
        own = {
            annotation.task_id: annotation
            for annotation in self._store.annotations_of(page.project_id, page.tasks)
            if page.kind == SUSPECTS and annotation.annotator == page.annotator and annotation.id > 0
        }
        given = self._labels_of(page.project_id, page.tasks, classes)
        return {
            task: Review(own[task].choice or "", own[task].id) if task in own else Review(label, None)
            for task, label in given.items()
        }

    def _project(self, project_id: int) -> Project:
        project = self._store.project(project_id)
        if project is None:
            raise UnknownPageError(f"This backend does not know project {project_id}.")
        return project

    def _open(self, project: Project) -> OpenCrops:
        return OpenCrops(self._store, self._pool_files, project, _control(project), self._labels_of)


def _control(project: Project) -> ImageChoices:
    try:
        return label_config.parse(project.label_config)
    except LabelConfigError as error:
        raise NotLabelledHereError(str(error)) from error


def _labels(given: Mapping[int, Given], control: ImageChoices) -> dict[int, str]:
    """Return the label of each task, as it is stored.

    Args:
        given: The class of each task; where a crop may have several, a list of them.
        control: The labeling config.

    Raises:
        PageError: A class is not in the labeling config any more, or the config takes one class a crop where several came,
            or the other way round.
    """
    if any(isinstance(names, list) is not control.multiple for names in given.values()):
        raise PageError(
            "This project takes several classes a crop by now. Look the page over, and confirm it again."
            if control.multiple
            else "This project takes one class a crop by now. Give one to each crop that had several."
        )
    named = {task: [names] if isinstance(names, str) else names for task, names in given.items()}
    if gone := sorted({name for names in named.values() for name in names} - {*control.classes}):
        again = "their classes again" if control.multiple else "another class"
        raise PageError(
            f"The labeling config has no class {', '.join(map(repr, gone))} any more. Give these crops {again}; "
            "nothing else on the page has changed."
        )
    return {task: label_set.join(names) for task, names in named.items()}
