"""What is trained on the labels: the contract, heads on embeddings, and torch modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.lazy import lazy_names

if TYPE_CHECKING:
    from model.classifiers.base import Classifier
    from model.classifiers.embedding import EmbeddingClassifier
    from model.classifiers.embedding_space import EmbeddingSpace
    from model.classifiers.multi_label import MultiLabelClassifier
    from model.classifiers.torch_classifier import TorchClassifier

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
