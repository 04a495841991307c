"""An ML backend written as label-studio-ml's guide shows, to compare with: it answers from each task's image.

Served as its Dockerfile does: `gunicorn --preload --workers 1 --threads 8 "everylabel.scripts.benchmarks.plain_ml_backend:application('encodes')"`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from label_studio_ml.api import init_app
from label_studio_ml.model import LabelStudioMLBase
from label_studio_ml.response import ModelResponse

from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.model import encoders
from everylabel.model.classifiers.base import Classifier
from everylabel.model.encoders import Encoder

CLASSES: Final = ("cat", "dog")


class AnswersAtOnce(LabelStudioMLBase):  # type: ignore[misc]  # the package has no types
    """A backend that gives every task the same prediction, unread: it measures the cost of the request alone."""

    def setup(self) -> None:
        """Name the model's version, as the guide does."""
        self.set("model_version", "0.0.1")

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Predict each task, in order."""
        del context, kwargs
        return ModelResponse(predictions=[_prediction(0, 0.5) for _ in tasks])


class Encodes(AnswersAtOnce):
    """A backend that fetches each image, encodes it with our default encoder and predicts with a classifier."""

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Predict each task, in order."""
        del context, kwargs
        encoder, head = _model()
        crops = []
        for task in tasks:
            path = Path(self.get_local_path(task["data"]["image"], task_id=task["id"]))
            picture = decode(path.read_bytes(), ImageLimits(), path.name, enough=encoder.enough_pixels)
            crops.append(encoder.prepare(picture))
        probabilities = head.predict_proba(encoder.encode(np.stack(crops)))
        best = probabilities.argmax(axis=1)
        return ModelResponse(
            predictions=[
                _prediction(int(k), float(row[k])) for k, row in zip(best, probabilities, strict=True)
            ]
        )


BACKENDS: Final = {"answers at once": AnswersAtOnce, "encodes": Encodes}
_lock = threading.Lock()
_loaded: list[tuple[Encoder, Classifier]] = []


def application(name: str) -> Any:
    """Return the WSGI application of one of `BACKENDS`."""
    return init_app(model_class=BACKENDS[name])


def _model() -> tuple[Encoder, Classifier]:
    """Load the model once a process, at the first request: a network does not survive gunicorn's fork."""
    with _lock:
        if not _loaded:
            encoder = encoders.create(device="cpu")
            rows = np.random.default_rng(0).random((20, encoder.dim), dtype=np.float32)
            head = encoder.make_classifier().fit(rows, CLASSES * 10)
            _loaded.append((encoder, head))
        return _loaded[0]


def _prediction(code: int, score: float) -> dict[str, Any]:
    choice = {
        "from_name": "class",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [CLASSES[code]]},
    }
    return {"score": score, "result": [choice]}
