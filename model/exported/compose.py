"""Put an encoder, a trained classifier and the pool's novelty together into one ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping

from everylabel.model.classifiers.base import Classifier
from everylabel.model.encoders.base import Encoder
from everylabel.model.exported.head import pack
from everylabel.model.exported.letterbox import add_letterbox
from everylabel.model.exported.novelty import Novelty
from everylabel.model.onnx_graph import Graph, NotExportableError

FORMAT = "1"
"""The version of what the metadata means."""
RECIPE = (
    "Give upright RGB pictures of one size, transparency laid over white. The graph fits each into a square of crop_size "
    "(bicubic, antialiased, shape kept, grey bars of 127). First decode a JPEG at the smallest of a half, a quarter or an "
    "eighth whose longer side has at least 2 * crop_size pixels; a picture 6 times too large either way is resized "
    "with Pillow (bicubic, reducing_gap 3)."
)

TOKENS = (
    "Give the ids that the tokenizer beside this file gives for each text (tokenizers.Tokenizer.from_file), with 0 after the end of those "
    "that are shorter than others."
)


def to_onnx(
    encoder: Encoder,
    classifier: Classifier,
    novelty: Novelty | None,
    metadata: Mapping[str, str] | None = None,
    *,
    with_head: bool = True,
) -> bytes:
    """Write a trained model as one ONNX file, from pixels or tokens to what `predict` says.

    Its input is `pixels`, (n, h, w, 3) uint8 RGB, or for texts `tokens`, (n, m) int32, 0 where a text has ended. Its outputs are `probabilities`, (n, k) float32, and, where there is
    a novelty, `novelty`, (n,) float32.

    Args:
        encoder: makes the rows that the classifier was trained on.
        classifier: trained.
        novelty: of the pool; None leaves it out.
        metadata: further entries of the file's metadata.
        with_head: lets another project begin with the classifier.

    Returns:
        The file.

    Raises:
        NotExportableError: the encoder or the classifier has no form in ONNX; the message says what can be done.
    """
    graph, crops = _of_texts(encoder) if encoder.reads == "text" else _of_images(encoder)
    (rows,) = graph.embed(encoder.to_onnx(), crops)
    if encoder.dtype.name == "float16":  # as they are stored
        ends = (graph.constant(end, "float32") for end in (-65504.0, 65504.0))
        rows = graph.cast(graph.cast(graph.add("Clip", rows, *ends), "float16"), "float32")
    k = len(classifier.classes_)
    outputs: dict[str, tuple[str, tuple[int | str, ...]]] = {
        "probabilities": (classifier.add_to_graph(graph, rows, encoder.dim), ("n", k))
    }
    if novelty is not None:
        outputs["novelty"] = (novelty.add_to_graph(graph, rows), ("n",))
    own = {
        "everylabel_format": FORMAT,
        "classes": json.dumps(classifier.classes_, ensure_ascii=False),
        "crop_size": str(encoder.crop_size),
        "encoder": encoder.signature,
        "reads": encoder.reads,
        **(pack(classifier, encoder) if with_head else {}),
        **({"tokens": TOKENS} if encoder.reads == "text" else {"resizing": RECIPE}),
    }
    return graph.finish(outputs, {**own, **(metadata or {})})


def _of_images(encoder: Encoder) -> tuple[Graph, str]:
    if encoder.enough_pixels is None:
        raise NotExportableError(
            f"The encoder {encoder.name!r} prepares crops in a way of its own (`prepare`), which an ONNX graph does not know."
        )
    graph = Graph("pixels", ("n", "h", "w", 3), "uint8")
    return graph, add_letterbox(graph, "pixels", encoder.crop_size)


def _of_texts(encoder: Encoder) -> tuple[Graph, str]:
    if encoder.tokenizer() is None:
        raise NotExportableError(
            f"The encoder {encoder.name!r} prepares texts in a way of its own (`prepare_text`), and has no `tokenizer` that could "
            "go along with the model."
        )
    return Graph("tokens", ("n", "m"), "int32"), "tokens"
