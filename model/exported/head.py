"""The head of an exported model: its classifier as arrays in the file's metadata, so that another project can begin with it.

Beside the arrays there is what the encoder makes of one made-up crop: an encoder of the same name with other weights, or that
prepares crops otherwise, is found out by it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from everylabel.model.onnx_graph import LARGEST

if TYPE_CHECKING:
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders.base import Encoder

ENTRY = "head"
"""The entry of the file's metadata."""
FORMAT = 1
MOST_CLASSES = 10_000
MOST_CHARACTERS = 256_000_000
"""Of the entry: a head of a thousand classes of an encoder of 4,096 numbers has a tenth of it."""
LONGEST_NAME = 1_000
LARGEST_NUMBER = 1e6
KINDS = {"EmbeddingClassifier": "one class a crop", "MultiLabelClassifier": "several classes a crop"}
"""The classifiers that another project can begin with, by the name of their class; a file holds the words."""
_NAMES = ("classes", "names")
_NUMBERS = ("float32", "float64")
_ARRAYS = ("centre", "column_scale", "weights", "bias", "scales", "confidence")
_DAMAGED = (
    *(ValueError, KeyError, TypeError, AttributeError, binascii.Error),
    *(RecursionError, OverflowError, MemoryError),
)
"""What reading a file raises that nobody has written."""
_TEXT = "Everylabel tells encoders apart by this sentence."
_ALIKE = 0.999
"""The least cosine between what one encoder makes of a crop on two machines: float16 and other kernels change less."""
NOT_OURS = "Write a model with: everylabel export --project N -o model.onnx"


class HeadError(ValueError):
    """A file holds no head that another project can begin with; the message says why, and what to do."""


@dataclass(frozen=True)
class ExportedHead:
    """The classifier of an exported model."""

    classes: tuple[str, ...]
    """Single classes, sorted."""
    kind: str
    """One of `KINDS`."""
    reads: str
    """`image` or `text`."""
    encoder: str
    """The signature of the encoder."""
    probe: NDArray[Any]
    """(dim,) float32: what the encoder made of the made-up crop."""
    state: dict[str, NDArray[Any]]
    """As the classifier's `state` gives it."""
    digest: str
    """The SHA-256 of the file."""
    origin: dict[str, Any]
    """What the file says of the project and the labels it comes from; for people to read."""

    @property
    def multiple(self) -> bool:
        """True if a crop may have several classes."""
        return "names" in self.state

    def is_of(self, encoder: Encoder) -> bool:
        """Tell whether this encoder makes the rows that the head reads: its name, its weights and its preparation."""
        if encoder.signature != self.encoder or self.probe.shape != (encoder.dim,):
            return False
        mine, theirs = probe(encoder).astype(np.float64), self.probe.astype(np.float64)
        length = float(np.linalg.norm(mine) * np.linalg.norm(theirs))
        return length > 0 and float(mine @ theirs) / length >= _ALIKE


def probe(encoder: Encoder) -> NDArray[Any]:
    """Return what an encoder makes of one made-up crop, the same on every machine: (dim,) float32."""
    if encoder.reads == "text":
        crop = encoder.prepare_text(_TEXT)
    else:
        y, x = np.mgrid[:96, :128]
        colours = np.stack([2 * x, 255 - 2 * y, (x * y) % 256], axis=2).astype(np.uint8)
        colours[24:56, 40:72] = (250, 30, 60)
        crop = encoder.prepare(Image.fromarray(colours))
    return np.asarray(encoder.encode(np.stack([crop]))[0], dtype=np.float32)


def kind_of(classifier: Classifier) -> str:
    """Return the kind of a classifier, as files hold it; empty for one that no other project can begin with."""
    return KINDS.get(type(classifier).__name__, "")


def pack(classifier: Classifier, encoder: Encoder) -> dict[str, str]:
    """Return the entry of the file's metadata; empty for a classifier that learns its features from the labels.

    Where an earlier model still has a say, it is the part that this project's labels trained.
    """
    head = classifier.head
    if head.space is None or not head.classes_ or not kind_of(head):
        return {}
    state = head.state()
    arrays = {name: _packed(np.asarray(array)) for name, array in state.items() if name not in _NAMES}
    names = {name: state[name].tolist() for name in _NAMES if name in state}
    body = {"arrays": arrays, "kind": kind_of(head), "probe": _packed(probe(encoder)), **names}
    text = json.dumps(body, ensure_ascii=False, sort_keys=True)
    return {ENTRY: json.dumps({"format": FORMAT, "sha256": _digest(text), "body": text}, ensure_ascii=False)}


def read_head(path: Path) -> ExportedHead:
    """Read the head out of a model that `everylabel export` wrote. The model is not run, and nothing is unpickled.

    Args:
        path: the ONNX file.

    Raises:
        HeadError: it cannot be read, is damaged, or holds no head.
    """
    content = _content(path)
    told = _metadata(path, content)
    if "everylabel_format" not in told:
        raise HeadError(f"{path} is an ONNX model that everylabel did not write. {NOT_OURS}")
    if ENTRY not in told:
        raise HeadError(
            f"{path} holds no head that a project could begin with: it was written by an earlier version of everylabel, or its "
            f"encoder was trained whole on the labels. Of the first, export it again. {NOT_OURS}"
        )
    try:
        if len(told[ENTRY]) > MOST_CHARACTERS:
            raise ValueError("its head is longer than any")
        outer = json.loads(told[ENTRY])
        if outer["format"] != FORMAT:
            raise HeadError(f"{path} was written by a later version of everylabel. Update this one.")
        if _digest(outer["body"]) != outer["sha256"]:
            raise ValueError("its head is not the one that was written")
        body = json.loads(outer["body"])
        _check_names(body)
        state: dict[str, NDArray[Any]] = {
            name: _unpacked(one) for name, one in body["arrays"].items() if name in _ARRAYS
        }
        state |= {name: np.asarray(body[name], dtype=str) for name in _NAMES if name in body}
        head = ExportedHead(
            classes=tuple(str(name) for name in body["names" if "names" in body else "classes"]),
            kind=str(body["kind"]),
            reads=told.get("reads", "image"),
            encoder=told["encoder"],
            probe=_unpacked(body["probe"]),
            state=state,
            digest=hashlib.sha256(content).hexdigest(),
            origin=_origin(told.get("card", "{}")),
        )
        _check(head)
    except HeadError:
        raise
    except _DAMAGED as error:
        raise HeadError(f"{path} is damaged ({error}). Export it again. {NOT_OURS}") from error
    return head


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise HeadError(
                f"{path} has {size / 1e9:.1f} GB, and no ONNX file has more than 2 GB. Name the file that `everylabel export` wrote."
            )
        return path.read_bytes()
    except OSError as error:
        raise HeadError(f"{path} cannot be read ({error.strerror}). {NOT_OURS}") from error


def _metadata(path: Path, content: bytes) -> dict[str, str]:
    import onnx  # noqa: PLC0415 - takes long to load

    try:
        return {entry.key: entry.value for entry in onnx.load_model_from_string(content).metadata_props}
    except Exception as error:  # protobuf has an error of its own for everything
        raise HeadError(f"{path} is no ONNX model, or damaged. {NOT_OURS}") from error


def _origin(card: str) -> dict[str, Any]:
    found = json.loads(card)
    kept = ("everylabel", "made_at", "project", "round", "trained_at")
    origin = {name: found[name] for name in kept if name in found and name != "project"}
    if isinstance(project := found.get("project"), dict):
        origin["project"] = {"id": int(project["id"]), "title": str(project.get("title", ""))[:LONGEST_NAME]}
    if len(json.dumps(origin)) > 8 * LONGEST_NAME:
        raise ValueError("what it says of itself is too long")
    if "labels" in found:
        origin["labels"] = int(found["labels"]["trained_on"])
    return origin


def _check(head: ExportedHead) -> None:
    """Raise a ValueError where the arrays of a head do not fit each other."""
    state, k = head.state, len(head.classes)
    labels = state["classes"].tolist()
    if not 1 <= k <= MOST_CLASSES or not 1 <= len(labels) <= MOST_CLASSES:
        raise ValueError(f"it has {k} classes")
    if labels != sorted(set(labels)) or [*head.classes] != sorted(set(head.classes)):
        raise ValueError("its classes are out of order")
    dim = len(head.probe)
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "centre": ((dim,),),
        "column_scale": ((1,), (dim,)),
        **(
            {"weights": ((k, dim, 2),), "bias": ((k, 2),), "scales": ((k, 3),)}
            if head.multiple
            else {"weights": ((dim, k),), "bias": ((k,),), "scales": ((1,), (3,)), "confidence": ((3,),)}
        ),
    }
    for name, allowed in shapes.items():
        if state[name].shape not in allowed:
            raise ValueError(f"its {name} have the shape {state[name].shape}")
        if not np.isfinite(state[name]).all():
            raise ValueError(f"its {name} are not finite")
        if np.abs(state[name]).max(initial=0.0) > LARGEST_NUMBER:
            raise ValueError(f"its {name} are larger than any")


def _check_names(body: Mapping[str, Any]) -> None:
    """Raise a ValueError where the classes are too many or too long, before arrays are made of them."""
    for names in (body[name] for name in _NAMES if name in body):
        if len(names) > MOST_CLASSES or any(len(name) > LONGEST_NAME for name in names):
            raise ValueError("its classes are too many, or too long")


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    wide = array if array.dtype.name in _NUMBERS else array.astype(np.float32)
    little = np.ascontiguousarray(wide.astype(wide.dtype.newbyteorder("<")))
    return {
        "dtype": wide.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def _unpacked(stored: Mapping[str, Any]) -> NDArray[Any]:
    if stored["dtype"] not in _NUMBERS:
        raise ValueError(f"numbers of the kind {stored['dtype']!r}")
    wanted = np.dtype(stored["dtype"])
    data = np.frombuffer(base64.b64decode(stored["data"], validate=True), dtype=wanted.newbyteorder("<"))
    return data.reshape([int(length) for length in stored["shape"]]).astype(wanted)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def restricted(state: Mapping[str, NDArray[Any]], known: frozenset[str]) -> dict[str, NDArray[Any]] | None:
    """Return the state of a head that answers with these classes alone; None if it knows fewer than two of them.

    Args:
        state: of a head, as `ExportedHead.state`.
        known: the classes that a labeling config has.
    """
    from everylabel.model import label_set  # noqa: PLC0415 - no part of reading a file

    several = "names" in state
    names = [str(name) for name in state["names" if several else "classes"]]
    kept = [place for place, name in enumerate(names) if name in known]
    if len(kept) < 2:
        return None
    found = dict(state)
    if several:
        found |= {name: state[name][kept] for name in ("names", "weights", "bias", "scales")}
        sets = ({*label_set.split(str(label))} & known for label in state["classes"])
        found["classes"] = np.asarray(sorted({label_set.join(names) for names in sets if names}), dtype=str)
        return found if len(found["classes"]) > 1 else None
    found |= {
        "classes": state["classes"][kept],
        "weights": state["weights"][:, kept],
        "bias": state["bias"][kept],
    }
    return found
