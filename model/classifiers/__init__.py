"""Classifiers: the contract, heads on embeddings, and torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.classifiers.embedding import EmbeddingClassifier
    from everylabel.model.classifiers.embedding_space import EmbeddingSpace
    from everylabel.model.classifiers.multi_label import MultiLabelClassifier
    from everylabel.model.classifiers.torch_classifier import TorchClassifier

__all__ = ["Classifier", "EmbeddingClassifier", "EmbeddingSpace", "MultiLabelClassifier", "TorchClassifier"]

__getattr__ = lazy_names(
    __name__,
    {
        "Classifier": "base",
        "EmbeddingClassifier": "embedding",
        "EmbeddingSpace": "embedding_space",
        "MultiLabelClassifier": "multi_label",
        "TorchClassifier": "torch_classifier",
    },
)
