"""Which encoder and which classifier a project's crops need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.model import encoders

if TYPE_CHECKING:
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder


def check_encoder(control: ImageChoices, encoder: str) -> None:
    """Make sure that the encoder named in the settings reads what the project shows.

    Raises:
        LabelConfigError: one reads texts and the other shows images; the message says the way out.
    """
    reads = encoders.reads(encoder)
    if control.kind == reads:
        return
    if control.kind == "text":
        raise LabelConfigError(
            f"<Choices name={control.from_name!r}> is for a <Text>, and this backend's encoder {encoder!r} reads images. "
            f"Start a backend for texts: pip install 'everylabel[text]', EVERYLABEL_ENCODER={encoders.DEFAULT_TEXT}, "
            "and a MODEL_DIR of its own."
        )
    raise LabelConfigError(
        f"<Choices name={control.from_name!r}> is for an <Image>, and this backend's encoder {encoder!r} reads texts. "
        f"Start a backend for images: EVERYLABEL_ENCODER={encoders.DEFAULT}, and a MODEL_DIR of its own."
    )


def make_classifier(control: ImageChoices, encoder: Encoder) -> Classifier:
    """Make the classifier for a project: one class a crop, or several.

    Raises:
        LabelConfigError: several classes a crop, and an encoder that is trained whole.
    """
    from everylabel.model.classifiers.multi_label import MultiLabelClassifier  # noqa: PLC0415 - takes long to load

    classifier = encoder.make_classifier()
    if not control.multiple:
        return classifier
    if classifier.space is None:
        raise LabelConfigError(
            f'<Choices name={control.from_name!r} choice="multiple"> needs an encoder that gives embeddings, and '
            f"{encoder.name!r} is trained whole. Set EVERYLABEL_ENCODER={encoders.DEFAULT}."
        )
    return MultiLabelClassifier(space=classifier.space)
