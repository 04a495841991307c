"""The classifier of each project: make an untrained one, or load the one in use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.model import encoders

if TYPE_CHECKING:
    from everylabel.backend.embedding.embeddings import Embeddings
    from everylabel.backend.label_studio.label_config import ImageChoices
    from everylabel.backend.store import Store
    from everylabel.backend.store.files import ProjectFiles
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.encoders import Encoder


def make_classifier(control: ImageChoices, encoder: Encoder) -> Classifier:
    """Make an untrained classifier for a project: of one class a crop, or several.

    Args:
        control: The choices of the labeling config.
        encoder: The encoder, which knows the classifier that fits it.

    Raises:
        LabelConfigError: A crop may have several classes, and the encoder is trained as a whole.
    """
    from everylabel.model.classifiers.multi_label import MultiLabelClassifier  # noqa: PLC0415 - takes long to load

    classifier = encoder.make_classifier()
    if not control.multiple:
        return classifier
    if classifier.space is None:
        raise LabelConfigError(
            f'<Choices name={control.from_name!r} choice="multiple"> needs an encoder that gives embeddings, and '
            f"{encoder.name!r} is trained whole. Use another: everylabel encoders --project N --switch {encoders.DEFAULT}, or "
            f"EVERYLABEL_ENCODER={encoders.DEFAULT} for all projects."
        )
    return MultiLabelClassifier(space=classifier.space)


class Models:
    """The trained classifiers in use, each read from disk once.

    Args:
        store: Knows the round whose classifier is in use.
        files: Returns a project's files.
        embeddings: The encoders that the classifiers are for.
    """

    def __init__(self, store: Store, files: Callable[[int], ProjectFiles], embeddings: Embeddings) -> None:
        self._store = store
        self._files = files
        self._embeddings = embeddings
        self._loaded: dict[int, tuple[tuple[int, bool, str], Classifier]] = {}

    def of(self, project_id: int) -> Classifier | None:
        """Return a project's classifier in use, or None while no model is trained.

        If its file is damaged, the newest readable classifier before it takes its place.

        Raises:
            LabelConfigError: Nothing in the labeling config classifies an image or a text.
        """
        project = self._store.project(project_id)
        if project is None or project.model_round is None:
            return None
        control = label_config.parse(project.label_config)
        encoder = self._embeddings.named(self._embeddings.name(project))
        wanted = (project.model_round, control.multiple, encoder.signature)
        loaded = self._loaded.get(project_id)
        if loaded is not None and loaded[0] == wanted:
            return loaded[1]
        from everylabel.model.classifiers.blended import with_state  # noqa: PLC0415 - takes long to load

        files = self._files(project_id)
        for number in reversed([number for number in files.models() if number <= project.model_round]):
            state = files.load_model(number, encoder.signature)
            # A model trained while the labeling config allowed one class, not several (or the reverse), is of no use.
            if state is not None and ("names" in state) == control.multiple:
                classifier = with_state(make_classifier(control, encoder), state)
                self._loaded[project_id] = (wanted, classifier)
                return classifier
        return None
