"""An exported model says of pixels what the classifier says of the rows that the encoder makes of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from everylabel.model import encoders
from everylabel.model.classifiers import (
    Classifier,
    EmbeddingClassifier,
    MultiLabelClassifier,
    TorchClassifier,
)
from everylabel.model.encoders import Encoder
from everylabel.model.encoders.pixels import letterbox
from everylabel.model.encoders.shrink import fitted, shrink
from everylabel.model.exported.compose import to_onnx
from everylabel.model.exported.letterbox import add_letterbox
from everylabel.model.exported.novelty import Novelty
from everylabel.model.onnx_graph import Graph, NotExportableError
from tests.contract.test_encoders import saved_vit

N = 26


def photographs(size: tuple[int, int]) -> list[Image.Image]:
    """Circles and stripes, all of one size, in noise that every rounding shows in."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[1], : size[0]]
    made = []
    for number in range(N):
        cx, cy, period = rng.integers(8, size[0] - 8), rng.integers(8, size[1] - 8), rng.integers(6, 12)
        shape = ((x - cx) ** 2 + (y - cy) ** 2 < 150) if number % 2 else ((y + cy) // period % 2 == 0)
        pixels = shape[..., None] * np.array([150, 120, 40]) + rng.integers(0, 90, (size[1], size[0], 3))
        made.append(Image.fromarray(pixels.astype(np.uint8)))
    return made


LABELS = ["circle" if number % 2 else "stripes" for number in range(N)]


def run(model: bytes, pixels: NDArray[Any]) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found: list[NDArray[Any]] = session.run(None, {"pixels": pixels})
    return found


@pytest.mark.parametrize(
    "size", [(8, 8), (160, 160), (300, 200), (641, 480), (80, 40), (77, 33), (1, 1), (3, 500), (900, 10)]
)
def test_the_letterbox_is_that_of_the_encoders_to_the_last_bit(size: tuple[int, int]) -> None:
    graph = Graph("pixels", ("n", "h", "w", 3), "uint8")
    crops = graph.cast(add_letterbox(graph, "pixels", 160), "float32")
    model = graph.finish({"crops": (crops, ("n", 160, 160, 3))})
    pictures = np.random.default_rng(0).integers(0, 256, (2, size[1], size[0], 3), dtype=np.uint8)
    expected = np.stack([letterbox(Image.fromarray(picture), 160) for picture in pictures])
    np.testing.assert_array_equal(run(model, pictures)[0], expected)


@pytest.fixture(scope="module", params=[*encoders.names(), "hf"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    name = request.param
    return encoders.create(saved_vit(tmp_path_factory.mktemp("vit")) if name == "hf" else name, device="cpu")


def test_it_says_what_the_encoder_and_the_classifier_say(encoder: Encoder) -> None:
    small, large = photographs((48, 40)), photographs((200, 300))
    rows, rows_of_large = (
        encoder.encode(np.stack([encoder.prepare(image) for image in images])) for images in (small, large)
    )
    classifier = encoder.make_classifier()
    if isinstance(classifier, TorchClassifier):
        classifier.epochs = 4  # its arithmetic counts here, and not how well it learns
    classifier.adapt(rows).fit(rows[:16], LABELS[:16])
    novelty = Novelty.measured(rows, by_direction=classifier.space is not None)
    assert novelty is not None
    model = to_onnx(encoder, classifier, novelty, {"card": "{}"})
    for images, expected in ((small, rows), (large, rows_of_large), (small[3:4], rows[3:4])):
        # What is six times too large is made smaller before, as the metadata says.
        pixels = [np.asarray(shrink(image, *fitted(image, encoder.crop_size))) for image in images]
        probabilities, score = run(model, np.stack(pixels))
        assert probabilities.shape == (len(images), 2)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, classifier.predict_proba(expected), atol=5e-4)
        np.testing.assert_allclose(score, novelty.score(expected), rtol=0.01, atol=0.01)
    assert np.ptp(classifier.predict_proba(rows)[:, 0]) > 0.01, (
        "probabilities that are all alike prove nothing"
    )

    told = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_modelmeta()
    assert json.loads(told.custom_metadata_map["classes"]) == ["circle", "stripes"]
    assert told.custom_metadata_map["crop_size"] == str(encoder.crop_size)
    assert told.custom_metadata_map["card"] == "{}"


@pytest.fixture(scope="module")
def default() -> tuple[Encoder, NDArray[Any], NDArray[Any]]:
    """The default encoder, its rows of the photographs, and their pixels."""
    encoder = encoders.create("efficientnet-lite0", device="cpu")
    images = photographs((64, 64))
    rows = encoder.encode(np.stack([encoder.prepare(image) for image in images]))
    return encoder, rows, np.stack([np.asarray(image) for image in images])


def test_several_classes_a_crop_are_exported_as_sets(
    default: tuple[Encoder, NDArray[Any], NDArray[Any]],
) -> None:
    encoder, rows, pixels = default
    labels = [label if number % 3 else f"dirt + {label}" for number, label in enumerate(LABELS)]
    space = encoder.make_classifier().space
    classifier = MultiLabelClassifier(space=space).adapt(rows).fit(rows[:24], labels[:24])
    assert len(classifier.classes_) >= 4
    (probabilities,) = run(to_onnx(encoder, classifier, None), pixels)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(rows), atol=5e-4)


def test_a_softmax_that_is_not_restated_is_exported_as_it_is(
    default: tuple[Encoder, NDArray[Any], NDArray[Any]],
) -> None:
    encoder, rows, pixels = default
    state = encoder.make_classifier().adapt(rows).fit(rows[:16], LABELS[:16]).state()
    del state["confidence"]  # as rounds of earlier versions stored it
    classifier = encoder.make_classifier().load_state({**state, "scales": state["scales"][1:2]})
    (probabilities,) = run(to_onnx(encoder, classifier, None), pixels)
    np.testing.assert_allclose(probabilities, classifier.predict_proba(rows), atol=5e-4)


def test_what_has_no_form_in_onnx_says_what_can_be_done() -> None:
    class Plugin(Encoder):
        name, dim, dtype, crop_size = "plugin", 3 * 8 * 8, np.dtype(np.float16), 8

        def _encode_batch(self, crops: NDArray[Any]) -> NDArray[Any]:
            return crops.reshape(len(crops), -1) / 255.0

        def make_classifier(self) -> Classifier:
            return EmbeddingClassifier()

    class Prepared(Plugin):
        def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
            return np.zeros((8, 8, 3), dtype=np.uint8)

    class Texts(Plugin):
        reads = "text"

    for kind, words in ((Plugin, "to_onnx"), (Prepared, "prepare"), (Texts, "tokenizer")):
        encoder = kind()
        rows = np.random.default_rng(0).random((20, encoder.dim), dtype=np.float32)
        classifier = encoder.make_classifier().adapt(rows).fit(rows, LABELS[:20])
        with pytest.raises(NotExportableError, match=words):
            to_onnx(encoder, classifier, None)
