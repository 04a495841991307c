"""`ActiveLearningBackend`: predict and fit, in the class that users of Label Studio know.

It keeps the class contract of `label-studio-ml` 2.x (`__init__(project_id, label_config)`, `setup`,
`predict(tasks, context, **kwargs)`, `fit(event, data, **kwargs)`, `model_version`) and is a subclass of its
`LabelStudioMLBase` where 2.x is installed, so `label_studio_ml.api.init_app(ActiveLearningBackend)` serves it.
Everything that lasts lives in the store; an instance only names a project and costs nothing to make.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from everylabel.backend import preload  # noqa: F401 - so that no request waits for an import
from everylabel.backend.bootstrap import current_backend
from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio import label_config as label_configs
from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.label_studio.request_bodies import is_id, project_number
from everylabel.backend.rounds.parts import PredictingParts
from everylabel.backend.store import StorageError, Task
from everylabel.backend.sync.task_listing import stored_task

if TYPE_CHECKING:
    from threading import BoundedSemaphore

    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.metrics import Metrics
    from everylabel.backend.settings import Settings
    from everylabel.backend.worker.jobs import Jobs

log = logging.getLogger(__name__)

UNTRAINED = "no model yet"
POLL_SECONDS = 0.02
CHANGED_AT_ONCE = 500
"""How many changed tasks one request asks Label Studio about; the next comparison finds the others."""
MOST_UNVERIFIED = 500
"""How many projects are kept that Label Studio has not confirmed yet: a caller can name any number."""
NO_ID = -1


def _contract() -> type:
    """Return `LabelStudioMLBase` of label-studio-ml 2.x, or `object` without it (PyPI's 1.0.9 has an older protocol)."""
    try:
        if int(version("label-studio-ml").split(".")[0]) >= 2:
            base: type = import_module("label_studio_ml.model").LabelStudioMLBase
            return base
    except PackageNotFoundError:
        pass
    return object


class _Parts(PredictingParts, Protocol):
    """The parts of a backend that the ML backend uses."""

    @property
    def settings(self) -> Settings: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def metrics(self) -> Metrics: ...
    @property
    def embedding_waits(self) -> BoundedSemaphore: ...


class ActiveLearningBackend(_contract()):  # type: ignore[misc]
    """A Label Studio ML backend that asks for the most useful crop next.

    Args:
        project_id: The project's number as Label Studio sends it: `"7"` or `"7.1700000000"`.
        label_config: The project's labeling config, if known.
        parts: The parts that instances share; those of this process if None.
    """

    def __init__(
        self,
        project_id: str | int | None = None,
        label_config: str | None = None,
        parts: _Parts | None = None,
    ) -> None:
        self._parts: _Parts = parts or current_backend()
        self._project_id = project_number(project_id)
        if label_config:
            self.use_label_config(label_config)
        self.setup()

    def setup(self) -> None:
        """Do nothing: state lives in the store, and the encoder in the trainer."""

    @property
    def project_id(self) -> str:
        """Return the project's number as text."""
        return str(self._project_id)

    @property
    def label_config(self) -> str:
        """Return the labeling config seen last; empty if there is none."""
        project = self._parts.store.project(self._project_id)
        return project.label_config if project else ""

    def use_label_config(self, label_config: str) -> None:
        """Keep a labeling config for the next round.

        Args:
            label_config: The labeling config in XML.

        Raises:
            LabelConfigError: Nothing in it classifies an image or a text, or the encoder does not fit it.
            StorageError: Too many projects were named that Label Studio has not confirmed yet.
        """
        project = self._parts.store.project(self._project_id)
        check_encoder(label_configs.parse(label_config), self._parts.embeddings.name(project))
        if project is None and self._parts.store.count_unverified_projects() >= MOST_UNVERIFIED:
            raise StorageError(
                f"{MOST_UNVERIFIED} other projects are waiting to be looked up in Label Studio first. Is the trainer running, and "
                "does Label Studio answer it? `everylabel doctor` tells."
            )
        if project is None or not project.label_config:
            self._parts.store.save_project(self._project_id, label_config=label_config)
        elif project.label_config != label_config:
            # The trainer compares with Label Studio, because annotations were read by the old config.
            change = {"label_config": label_config}
            waiting = self._parts.store.events(self._project_id)
            # Label Studio sends its config before every prediction: one event is enough until the trainer has it.
            if not any(event.action == "PROJECT_UPDATED" and event.payload == change for event in waiting):
                self._parts.store.add_event(self._project_id, "PROJECT_UPDATED", change)

    @property
    def model_version(self) -> str:
        """Return the version of the model that answers `predict`.

        It is never the version of a round's queue (`round 3`): a prediction retrieved by hand must not enter the label
        stream, nor be shown to an annotator as if it were confident enough to pre-fill.
        """
        project = self._parts.store.project(self._project_id)
        if project is None or project.model_round is None:
            return UNTRAINED
        return f"{version_name(project.model_round)} model"

    def get(self, key: str) -> str | None:
        """Return an entry that label-studio-ml's server reads from its cache, or None for any other key."""
        return {"model_version": self.model_version, "label_config": self.label_config}.get(key)

    def set_extra_params(self, extra_params: object) -> None:
        """Accept the connection's extra parameters, as the contract asks; none is used."""

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Predict the class of each task's crop.

        Args:
            tasks: Label Studio tasks, with `id` and `data`.
            context: The context of an interactive annotation; not used.
            kwargs: Further parameters of the protocol; not used.

        Returns:
            One prediction for each task, in order: `result`, `score` (calibrated confidence, 0 to 1) and
            `model_version`. If a crop cannot be read, or no model is trained yet, `result` is empty, the score is 0
            and `error` holds the reason.

        Raises:
            LabelConfigError: Nothing in the labeling config classifies an image or a text, or the encoder does not
                fit it.
        """
        del context, kwargs
        if not tasks:
            return []
        project = self._parts.store.project(self._project_id)
        control = label_configs.parse(project.label_config if project else "")
        check_encoder(control, self._parts.embeddings.name(project))
        known = self._embedded(tasks, control)
        model_version = self.model_version
        model = self._parts.models.of(self._project_id)
        answers: list[dict[str, Any]] = []
        rows: list[int] = []
        for task in tasks:
            answer: dict[str, Any] = {"result": [], "score": 0.0, "model_version": model_version}
            found = known.get(_task_id(task))
            if found is None or found.embedding_row is None:
                answer["error"] = _why_not(task, found)
            elif model is None:
                answer["error"] = "Nothing has been learned yet: label crops of two classes first."
            else:
                rows.append(found.embedding_row)
                answer["row"] = len(rows) - 1
            answers.append(answer)
        if model is not None and rows:
            embeddings = self._parts.embeddings.read(self._project_id)
            if self._encoder_of_rows() != (project.encoder if project else ""):
                return self.predict(tasks)  # switched in this instant: the rows are another encoder's
            if project is None or project.encoder != self._parts.embeddings.encoder(project.id).signature:
                return [_anew(answer) for answer in answers]
            order = np.asarray(rows)
            probabilities = model.predict_proba(np.asarray(embeddings[order]))
            for task, answer in zip(tasks, answers, strict=True):
                if (row := answer.pop("row", None)) is not None:
                    best = int(np.argmax(probabilities[row]))
                    score = float(probabilities[row, best])
                    answer["result"] = control.result(
                        model.classes_[best], score, known[_task_id(task)].image_url
                    )
                    answer["score"] = score
        self._parts.metrics.predictions.labels("predicted").inc(len(rows) if model else 0)
        self._parts.metrics.predictions.labels("empty").inc(len(tasks) - (len(rows) if model else 0))
        return answers

    def _encoder_of_rows(self) -> str:
        project = self._parts.store.project(self._project_id)
        return project.encoder if project else ""

    def fit(self, event: str, data: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Store a webhook on disk, where the trainer finds it.

        Training happens in the background: Label Studio calls this within the annotator's own click and waits at most
        one second.

        Args:
            event: The webhook's `action`.
            data: Its body.
            kwargs: Further parameters of the protocol; not used.

        Returns:
            The `status`: queued or ignored, with a `reason`.

        Raises:
            BodyError: The body lacks what this action always has.
        """
        del kwargs
        return self.receive(webhooks.read({"project": self._project_id, **data, "action": event}))

    def receive(self, webhook: webhooks.WebhookBody) -> dict[str, Any]:
        """Store a webhook whose body has been parsed, as `fit` does."""
        if webhook.action not in webhooks.MODELS:
            return {"status": "ignored", "reason": f"everylabel has no use for {webhook.action}."}
        self._parts.store.add_event(self._project_id, webhook.action, webhook.kept())
        self._parts.metrics.events.labels(webhook.action).inc()
        return {"status": "queued"}

    def _embedded(self, tasks: Sequence[Mapping[str, Any]], control: ImageChoices) -> dict[int, Task]:
        """Return the stored tasks by id, after asking the trainer for missing embeddings and waiting for them."""
        store = self._parts.store
        ids = [_task_id(task) for task in tasks]
        known = {task.id: task for task in store.tasks(self._project_id, ids)}
        asked = [
            stored_task(id_, control.crop(task.get("data")))
            for id_, task in zip(ids, tasks, strict=True)
            if id_ != NO_ID
        ]
        new = [task for task in asked if task.id not in known]
        if changed := [task.id for task in asked if task.id in known and not _is_known(task, known)]:
            new += self._changed(changed, control, known)
        if new:
            store.save_tasks(self._project_id, new, as_read=True)
        readable = {task.id for task in new if task.image_url is not None}
        open_ids = sorted(readable | {id_ for id_ in ids if id_ in known and _is_open(known[id_])})
        if not open_ids and not new:
            return known
        if open_ids:
            self._parts.jobs.embed(self._project_id, open_ids)
        if not self._parts.embedding_waits.acquire(blocking=False):
            return known  # the remaining threads answer webhooks, which have one second
        try:
            return self._wait_for(ids, open_ids)
        finally:
            self._parts.embedding_waits.release()

    def _changed(
        self, task_ids: Sequence[int], control: ImageChoices, known: Mapping[int, Task]
    ) -> list[Task]:
        """Return the tasks whose crop in Label Studio, too, differs from the stored one.

        Label Studio sends no webhook when a task's data changes, so a request is the first sign of it. The request
        alone is not trusted, because its sender can name any crop.
        """
        try:
            there = self._parts.label_studio.tasks_among(self._project_id, task_ids[:CHANGED_AT_ONCE])
            found = [stored_task(int(task["id"]), control.crop(task.get("data"))) for task in there]
        except LabelStudioError as error:
            log.warning("project %s: changed tasks are compared later: %s", self._project_id, error)
            return []
        return [task for task in found if not _is_known(task, known)]

    def _wait_for(self, ids: Sequence[int], open_ids: Sequence[int]) -> dict[int, Task]:
        """Return the stored tasks by id once the trainer has embedded `open_ids`, or when time is up."""
        store = self._parts.store
        until = time.monotonic() + self._parts.settings.predict_seconds
        while True:
            known = {task.id: task for task in store.tasks(self._project_id, ids)}
            # A task that is gone has been deleted in Label Studio meanwhile.
            if not any(_is_open(known[id_]) for id_ in open_ids if id_ in known):
                return known
            if time.monotonic() > until:
                log.warning(
                    "project %s: crops were not embedded in time; is the trainer running?", self._project_id
                )
                return known
            time.sleep(POLL_SECONDS)


def _is_open(task: Task) -> bool:
    return task.embedding_row is None and task.problem is None


def _task_id(task: Mapping[str, Any]) -> int:
    id_ = task.get("id")
    return id_ if is_id(id_) else NO_ID


def _is_known(task: Task, known: Mapping[int, Task]) -> bool:
    found = known.get(task.id)
    return found is not None and task.image_url in (None, found.image_url)


def _why_not(task: Mapping[str, Any], found: Task | None) -> str:
    if _task_id(task) == NO_ID:
        return "The task has no id: Label Studio numbers its tasks from 1."
    return found.problem if found and found.problem else "The crop is not embedded yet."


def _anew(answer: dict[str, Any]) -> dict[str, Any]:
    answer.pop("row", None)
    return {
        **answer,
        "error": "The crops are being embedded anew, for another encoder. Try again in a moment.",
    }
