"""Predict pictures or texts one batch after the other, while the next are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.model.encoders.in_order import in_order
from everylabel.model.exported.model_file import ExportedModel
from everylabel.scripts.predicting.pictures import Picture, PicturesError

BATCH = 32
"""Pictures whose predictions are written together."""


@dataclass(frozen=True)
class _Read:
    """A picture or text that has been read: what the model takes, or why there is nothing."""

    picture: Picture
    prepared: NDArray[Any] | None = None
    problem: str = ""


def predict_pictures(
    model: ExportedModel, pictures: Iterable[Picture], limits: ImageLimits, threads: int
) -> Iterator[list[dict[str, Any]]]:
    """Predict pictures or texts, and yield what is known of each, a batch at a time, in their order.

    Pictures are decoded as the backend decodes those of Label Studio: by its limits, and formats whose cost nobody can
    know beforehand in a process of their own. A file that cannot be read has an `error`, and ends nothing.

    Args:
        model: the exported model.
        pictures: files, and boxes in them; or texts.
        limits: how large a picture may be.
        threads: how many are decoded at a time.
    """
    read = in_order(partial(_read_text if model.reads == "text" else _read, model, limits), pictures, threads)
    while batch := list(islice(read, BATCH)):
        good = [one.prepared for one in batch if one.prepared is not None]
        found = model.predict(good)
        place = 0
        records: list[dict[str, Any]] = []
        for one in batch:
            told = {"file": one.picture.path, "box": one.picture.box, "model": model.digest[:12]}
            if one.prepared is None:
                records.append({**told, "error": one.problem})
                continue
            novelty = None if found.novelty is None else float(found.novelty[place])
            records.append(told | _said(model, found.probabilities[place], novelty))
            place += 1
        yield records


def _said(model: ExportedModel, probabilities: NDArray[Any], novelty: float | None) -> dict[str, Any]:
    best = int(probabilities.argmax())
    shares = [round(float(share), 6) for share in probabilities]
    return {
        "class": model.classes[best],
        "confidence": shares[best],
        "novelty": None if novelty is None else round(novelty, 4),
        "unlike": None if novelty is None else novelty > 1,
        "probabilities": dict(zip(model.classes, shares, strict=True)),
    }


def _read(model: ExportedModel, limits: ImageLimits, picture: Picture) -> _Read:
    try:
        box = picture.pixels()
        content = _content(Path(picture.path), limits)
        enough = model.enough_pixels if box is None else None
        image = decode(content, limits, "the picture", enough=enough)
        if box is not None:
            left, top, right, bottom = box
            box = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
            if box[0] >= box[2] or box[1] >= box[3]:
                return _Read(picture, problem=f"the box {picture.box!r} is not on the picture")
            image = image.crop(box)
        return _Read(picture, model.prepare(image))
    except PicturesError as error:
        return _Read(picture, problem=str(error))
    except ImageError as error:
        return _Read(picture, problem=error.reason)
    except (OSError, ValueError) as error:  # a ValueError: a NUL in its name
        return _Read(picture, problem=getattr(error, "strerror", None) or str(error))


def _read_text(model: ExportedModel, limits: ImageLimits, text: Picture) -> _Read:
    try:
        words = _content(Path(text.path), limits).decode("utf-8-sig") if text.text is None else text.text
        if not words.strip():
            return _Read(text, problem="the text is empty")
        return _Read(text, model.prepare_text(words))
    except UnicodeDecodeError:
        return _Read(text, problem="the file is not text in UTF-8")
    except PicturesError as error:
        return _Read(text, problem=str(error))
    except (OSError, ValueError) as error:  # a ValueError: a NUL in its name
        return _Read(text, problem=getattr(error, "strerror", None) or str(error))


def _content(path: Path, limits: ImageLimits) -> bytes:
    """Return the bytes of a file.

    Raises:
        PicturesError: it is no file, or too large.
    """
    if path.exists() and not path.is_file():  # to read from a pipe is to wait for whoever writes into it
        raise PicturesError("it is not a file")
    if path.is_file() and path.stat().st_size > limits.max_bytes:
        raise PicturesError(f"the file is larger than {limits.max_bytes / 1e6:g} MB")
    return path.read_bytes()
