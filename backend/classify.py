"""Classify pictures or texts that a program sends, with the model in use of a project: no task and no Label Studio is involved."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from everylabel.backend.embedding.clients import image_limits
from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.images.decode import decode
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.publisher import version_name
from everylabel.backend.label_studio.request_bodies import BodyError
from everylabel.backend.rounds.parts import PredictingParts
from everylabel.backend.store import LARGEST_ID

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from everylabel.backend.settings import Settings
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder
    from everylabel.model.exported.novelty import Novelty

MOST_CROPS = 16
"""Pictures or texts that one request may send."""
MOST_REQUESTS = 2
"""Requests that hold a thread of the web server at a time: one is answered, the others wait."""
PATIENCE = 10.0
"""Seconds that a request waits for the one before it: then it is told to come back."""
GROWN = 1.25
"""Growth of a pool after which it is measured anew which crops are unlike all of it."""
TO_SEND = {"image": '{"images": ["data:image/png;base64,…"]}', "text": '{"texts": ["…"]}'}
"""The JSON body that holds each kind of crops."""
_DATA_URL = re.compile(r"data:image/[\w.+-]{1,40};base64,", re.ASCII)


@dataclass(frozen=True)
class SentCrops:
    """The crops that a request sends, in its order."""

    kind: Literal["image", "text"]
    items: Sequence[bytes | str | None]
    """Image files, with None for what was none; or texts."""


class UnknownProjectError(LookupError):
    """The project is not known here; the message says what to do."""


class NotYetError(RuntimeError):
    """The project has no model, or this process is busy; the message says when to come back."""

    def __init__(self, message: str, *, busy: bool = False) -> None:
        super().__init__(message)
        self.busy = busy


class _Parts(PredictingParts, Protocol):
    """The parts of a backend that classify."""

    @property
    def settings(self) -> Settings: ...


class CropClassifier:
    """Classifies pictures and texts, one request at a time: webhooks, which have one second, need the cores too.

    Args:
        parts: of a backend.
    """

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts
        self._turn = threading.Lock()
        self._requests = threading.BoundedSemaphore(MOST_REQUESTS)
        self._novelty: dict[int, tuple[int, str, Novelty | None]] = {}

    def classify(self, project_id: int, sent: SentCrops) -> dict[str, Any]:
        """Classify pictures or texts.

        Args:
            project_id: the project.
            sent: what to classify.

        Returns:
            `model_version`, and under `results`, for each crop in its order, `class`, `confidence`,
            `probabilities`, `novelty` and `unlike`; or `error`.

        Raises:
            UnknownProjectError: there is no such project.
            NotYetError: it has no model yet, or other requests take too long.
            BodyError: its crops are of the other kind.
            LabelConfigError: it and its encoder do not fit.
        """
        project = self._parts.store.project(project_id) if project_id <= LARGEST_ID else None
        if project is None:
            raise UnknownProjectError(
                f"Project {project_id} is not connected. To connect it: everylabel connect --project {project_id}"
            )
        name = self._parts.embeddings.name(project)
        control = label_config.parse(project.label_config)
        check_encoder(control, name)
        if sent.kind != control.kind:
            raise BodyError(
                f"Project {project_id} classifies {control.kind}s. Send them as JSON: {TO_SEND[control.kind]}"
            )
        if not sent.items:
            return {"model_version": "", "results": []}
        model = self._parts.models.of(project_id)
        if model is None:
            raise NotYetError("Nothing has been learned yet: label crops of two classes first.")
        with self._a_turn():
            results = self._results(project_id, self._parts.embeddings.named(name), model, sent)
        now = self._parts.store.project(project_id)
        if now is not None and now.encoder != project.encoder:
            self._novelty.pop(project_id, None)
            return self.classify(project_id, sent)  # switched in this instant
        return {"model_version": version_name(project.model_round or 0), "results": results}

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of `MOST_REQUESTS` places: the remaining threads answer others.

        To be entered before a body is read: while tens of megabytes of JSON are, no other thread runs.

        Raises:
            NotYetError: every place is taken.
        """
        if not self._requests.acquire(blocking=False):
            raise _busy()
        try:
            yield
        finally:
            self._requests.release()

    @contextmanager
    def _a_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=PATIENCE):
            raise _busy()
        try:
            yield
        finally:
            self._turn.release()

    def _results(
        self, project_id: int, encoder: Encoder, model: Classifier, sent: SentCrops
    ) -> list[dict[str, Any]]:
        read = [self._crop(encoder, item) for item in sent.items]
        crops = [crop for crop in read if not isinstance(crop, str)]
        if not crops:
            return [{"error": problem} for problem in read]
        rows = encoder.encode(np.stack(crops))
        novelty = self._novelty_of(project_id, encoder, model)
        scores = [None] * len(rows) if novelty is None else novelty.score(rows).tolist()
        said = map(_said, repeat(model.classes_), model.predict_proba(rows), scores)
        return [{"error": crop} if isinstance(crop, str) else next(said) for crop in read]

    def _crop(self, encoder: Encoder, content: bytes | str | None) -> NDArray[Any] | str:
        """Return the crop of an image file or a text, or why there is none."""
        if isinstance(content, str):
            text = label_config.kept_text(content)
            return encoder.prepare_text(text) if text else "The text is empty"
        limits = image_limits(self._parts.settings)
        if content is None:
            return "It is no data: URL of an image. Send data:image/png;base64,…"
        if len(content) > limits.max_bytes:
            return "The file is too large. Shrink the image, or set EVERYLABEL_MAX_IMAGE_MEGABYTES"
        try:
            return encoder.prepare(decode(content, limits, "The picture", enough=encoder.enough_pixels))
        except ImageError as error:
            return str(error)

    def _novelty_of(self, project_id: int, encoder: Encoder, model: Classifier) -> Novelty | None:
        """Return the novelty of a project's pool, measured anew once the pool has grown."""
        from everylabel.model.exported.novelty import of_rows  # noqa: PLC0415 - takes long to load

        _, rows = self._parts.store.embedding_rows(project_id)
        known = self._novelty.get(project_id)
        grown = known is None or len(rows) > GROWN * known[0] or len(rows) < known[0]
        if known is None or grown or known[1] != encoder.signature:
            pool = self._parts.embeddings.read(project_id)
            found = of_rows(pool, rows, by_direction=model.space is not None, seed=project_id)
            known = self._novelty[project_id] = (len(rows), encoder.signature, found)
        return known[2]


def crops_in(body: Mapping[str, Any]) -> SentCrops:
    """Return the crops of a JSON body, `{"images": ["data:image/png;base64,…"]}` or `{"texts": ["…"]}`.

    Raises:
        BodyError: there is no such list, or there are both, or it is too long.
    """
    if "texts" in body:
        if "images" in body:
            raise BodyError("The request has both 'images' and 'texts': send what the project classifies.")
        return SentCrops("text", _short_list(body, "texts", "texts"))
    return SentCrops("image", [*map(_of_data_url, _short_list(body, "images", "data: URLs"))])


def require_few(number: int) -> None:
    """Check that a request does not send too many crops.

    Raises:
        BodyError: it does.
    """
    if number > MOST_CROPS:
        raise BodyError(f"{number} pictures or texts are too many for one request: send up to {MOST_CROPS}.")


def _short_list(body: Mapping[str, Any], name: str, of: str) -> list[str]:
    found = body.get(name)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise BodyError(f"The request has no list of {of} in {name!r}.")
    require_few(len(found))
    return found


def _busy() -> NotYetError:
    return NotYetError("Other crops are being classified: try again in some seconds.", busy=True)


def _of_data_url(url: str) -> bytes | None:
    match = _DATA_URL.match(url)
    if match is None:
        return None
    try:
        return base64.b64decode(url[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        return None


def _said(classes: Sequence[str], probabilities: NDArray[Any], score: float | None) -> dict[str, Any]:
    best = int(probabilities.argmax())
    novelty = {} if score is None else {"novelty": score, "unlike": score > 1}
    shares = probabilities.tolist()
    return {
        "class": classes[best],
        "confidence": shares[best],
        "probabilities": dict(zip(classes, shares, strict=True)),
        **novelty,
    }
