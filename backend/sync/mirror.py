"""Keep the store equal to Label Studio: apply webhooks as they come, and compare whole projects on request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.label_config import ImageChoices, LabelConfigError
from everylabel.backend.label_studio.overlap import overlap_of, own_overlap_of
from everylabel.backend.label_studio.webhooks import TRAINING, AnnotationBody
from everylabel.backend.store import Annotation, Event, Project, Store
from everylabel.backend.sync.task_listing import TaskListing, stored_task

log = logging.getLogger(__name__)

SYNC, SYNC_AND_TRAIN = "LOOK", "LOOK_AND_TRAIN"
"""Events of our own: compare with Label Studio, and run a round if something is new, or in any case.

The values are stored in databases, and stay as earlier versions wrote them.
"""


@dataclass(frozen=True)
class Change:
    """The kinds of changes that a sync with Label Studio has made to the store."""

    labels: bool = False
    tasks: bool = False
    config: bool = False
    training_asked: bool = False

    def __or__(self, other: Change) -> Change:
        return Change(
            self.labels or other.labels,
            self.tasks or other.tasks,
            self.config or other.config,
            self.training_asked or other.training_asked,
        )

    def __bool__(self) -> bool:
        return self.labels or self.tasks or self.config or self.training_asked


class Mirror:
    """A mirror of Label Studio's projects in the store.

    Events may come twice, late or in another order: an annotation is stored by its id, an older version of it never
    replaces a newer one, and what was deleted stays deleted. So events can be applied together, in a few writes.

    Args:
        store: The store.
        clock: Returns seconds since 1970.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def apply(self, project: Project, events: Iterable[Event]) -> Change:
        """Apply webhooks to the store.

        Args:
            project: The project, as it is in the store.
            events: Its webhooks, oldest first.

        Returns:
            The kinds of changes that they made; after one of `config`, the project is another.
        """
        project_id, config = project.id, project.label_config
        events = list(events)
        payloads = [event.payload for event in events]
        change = Change(training_asked=any(event.action in {*TRAINING, SYNC_AND_TRAIN} for event in events))
        configs = [payload["label_config"] for payload in payloads if "label_config" in payload]
        if configs:
            config = configs[-1]
            change |= self._save_config(project_id, config, before=project)
        try:
            control = label_config.parse(config)
        except LabelConfigError as error:
            if events:
                log.warning("project %s: %s", project_id, error)
            return change
        tasks = {
            int(task["id"]): stored_task(int(task["id"]), control.crop(task.get("data")))
            for task in _all(payloads, "tasks")
        }
        annotations = [stored_annotation(found, control) for found in _all(payloads, "annotations")]
        deleted, gone = _all(payloads, "annotation_ids"), _all(payloads, "task_ids")
        if tasks:
            self._store.save_tasks(project_id, list(tasks.values()))
        if annotations:
            self._store.save_annotations(project_id, annotations)
        if deleted:
            self._store.delete_annotations(project_id, deleted)
        if gone:
            self._store.delete_tasks(project_id, gone)
        created = any(event.action == "TASKS_CREATED" and event.payload.get("tasks") for event in events)
        return change | Change(labels=bool(annotations or deleted or gone), tasks=created or bool(gone))

    def reconcile(
        self,
        label_studio: LabelStudio,
        project_id: int,
        progress: Callable[[str, int, int], None] | None = None,
        *,
        whole: bool = False,
    ) -> Change:
        """Read from Label Studio what has changed since the last comparison, and so find what webhooks missed.

        Args:
            label_studio: The client.
            project_id: The project.
            progress: Called with (what, done, total).
            whole: Read every task (1.1 ms each) and every annotation. This also happens at the first comparison, once
                a day, and when the numbers of tasks or annotations still differ after reading the changes.

        Returns:
            The kinds of changes that were found.

        Raises:
            LabelConfigError: Nothing in the labeling config classifies an image or a text.
            LabelStudioError: Label Studio does not answer, refuses the token or has no such project.
        """

        def report(what: str) -> Callable[[int, int], None] | None:
            return None if progress is None else (lambda done, total: progress(what, done, total))

        project = label_studio.project(project_id)
        before = self._store.project(project_id)
        change = self._save_config(project_id, str(project["label_config"]), before)
        self._store.save_project(
            project_id,
            title=str(project.get("title") or "")[:255],
            overlap=overlap_of(project),
            own_overlap=own_overlap_of(project),
        )
        control = label_config.parse(str(project["label_config"]))

        listing = TaskListing(
            self._store,
            label_studio,
            project_id,
            control,
            whole=whole,
            clock=self._clock,
            progress=report("Reading tasks"),
        )
        change |= Change(tasks=listing.read())
        annotated, changed = self._read_annotations(
            label_studio, project_id, control, listing.since, listing.touched, report("Reading annotations")
        )
        change |= Change(labels=changed, tasks=listing.read_unheard_of(annotated))
        listing.end()
        return change

    def _read_annotations(
        self,
        label_studio: LabelStudio,
        project_id: int,
        control: ImageChoices,
        since: float | None,
        touched: Collection[int] | None,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[set[int], bool]:
        """Read the annotations of tasks that have changed, or all annotations.

        Args:
            label_studio: The client.
            project_id: The project.
            control: Finds the label of an annotation.
            since: Read the changes since then, in seconds since 1970; None for all annotations.
            touched: Tasks that have changed, whose annotations may be gone.
            progress: Called with (tasks read, tasks to read).

        Returns:
            The annotated tasks that were read, and whether an annotation is new, changed or gone.
        """
        annotated: set[int] = set()
        found: dict[int, Annotation] = {}
        read = label_studio.tasks(project_id, annotated=True, changed_since=since, progress=progress)
        for task in read:
            annotated.add(int(task["id"]))
            for body in task.get("annotations") or []:
                annotation = stored_annotation(body, control)
                found[annotation.id] = annotation
        held = {a.id: a for a in self._store.mirrored_annotations(project_id)}
        if touched is not None:
            among = annotated.union(touched)
            held = {id_: annotation for id_, annotation in held.items() if annotation.task_id in among}
        if changed := found != held:
            self._store.save_annotations(project_id, found.values(), as_read=True)
            self._store.delete_annotations(project_id, held.keys() - found.keys())
        if since is not None and self._annotations_differ(label_studio, project_id):
            annotated, more = self._read_annotations(label_studio, project_id, control, None, None, progress)
            changed |= more
        return annotated, changed

    def _annotations_differ(self, label_studio: LabelStudio, project_id: int) -> bool:
        """Return whether Label Studio has another number of annotations than the store."""
        project = label_studio.project(project_id)
        there = [project.get(f"{kind}_annotations_number") or 0 for kind in ("total", "skipped")]
        return sum(map(int, there)) != self._store.number_of_annotations(project_id)

    def _save_config(self, project_id: int, config: str, before: Project | None) -> Change:
        if before is not None and before.label_config == config:
            return Change()
        # Tasks were read by the old config, including those of an interrupted listing: it starts again.
        self._store.save_project(project_id, label_config=config, listed_until=None, listed_whole_at=None)
        return Change(config=before is not None)


def with_waiting(
    annotations: Iterable[Annotation], events: Iterable[Event], control: ImageChoices
) -> list[Annotation]:
    """Return the annotations as they will be once these webhooks are applied, without storing anything.

    Args:
        annotations: The stored annotations.
        events: The waiting webhooks, oldest first.
        control: Finds the label of an annotation.

    Returns:
        The annotations, oldest change first.
    """
    found = {annotation.id: annotation for annotation in annotations}
    for event in events:
        for new in [stored_annotation(body, control) for body in _all([event.payload], "annotations")]:
            if new.id not in found or found[new.id].updated_at <= new.updated_at:
                found[new.id] = new.after(found.get(new.id))
        for id_ in _all([event.payload], "annotation_ids"):
            found.pop(id_, None)
    return sorted(found.values(), key=lambda annotation: (annotation.updated_at, annotation.id))


def _all(payloads: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    return [item for payload in payloads for item in payload.get(key) or []]


def stored_annotation(body: Mapping[str, Any], control: ImageChoices) -> Annotation:
    """Return an annotation of Label Studio as the store keeps it.

    Raises:
        BodyError: It has no id or no task.
    """
    read = AnnotationBody.read(body)
    return Annotation(
        id=read.id,
        task_id=read.task,
        annotator=read.completed_by,
        choice=control.choice(read.result),
        cancelled=read.was_cancelled,
        updated_at=read.updated_at,
        accepted=read.accepted,
        opened_at=read.opened_at,
    )
