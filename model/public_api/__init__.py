"""The learning core of everylabel: which crops to label next, from the labels so far.

What `__all__` lists needs no Label Studio, and is what everylabel promises to keep: `docs/learning-core.md` shows it at
work, and a change to it stands in `CHANGELOG.md`. Each name is imported when it is used first, so that `import
everylabel` itself loads neither torch nor scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.classifiers.embedding import EmbeddingClassifier
    from everylabel.model.classifiers.multi_label import MultiLabelClassifier
    from everylabel.model.classifiers.torch_classifier import TorchClassifier
    from everylabel.model.encoders import create as create_encoder
    from everylabel.model.encoders import names as encoder_names
    from everylabel.model.encoders.base import Encoder
    from everylabel.model.encoders.trainable import TrainableEncoder
    from everylabel.model.evaluation.accuracy import AccuracyEstimate
    from everylabel.model.evaluation.check_set import CheckSetEstimate
    from everylabel.model.evaluation.stopping import PoolPredictions, StoppingAdvice
    from everylabel.model.label_quality.label_errors import LabelIssue
    from everylabel.model.pseudo_labels.base import PseudoLabelRule
    from everylabel.model.pseudo_labels.confident_crops import PseudoLabel
    from everylabel.model.query import create as create_query_strategy
    from everylabel.model.query import names as query_strategy_names
    from everylabel.model.query.base import Query, QueryStrategy
    from everylabel.model.round import Round, TrainingData
    from everylabel.model.session import ActiveLearningSession

    __version__: str

__all__ = [
    "AccuracyEstimate",
    "ActiveLearningSession",
    "CheckSetEstimate",
    "Classifier",
    "EmbeddingClassifier",
    "Encoder",
    "LabelIssue",
    "MultiLabelClassifier",
    "PoolPredictions",
    "PseudoLabel",
    "PseudoLabelRule",
    "Query",
    "QueryStrategy",
    "Round",
    "StoppingAdvice",
    "TorchClassifier",
    "TrainableEncoder",
    "TrainingData",
    "__version__",
    "create_encoder",
    "create_query_strategy",
    "encoder_names",
    "query_strategy_names",
]

# name -> where it is defined
_DEFINED_IN = {
    "AccuracyEstimate": "everylabel.model.evaluation.accuracy:AccuracyEstimate",
    "ActiveLearningSession": "everylabel.model.session:ActiveLearningSession",
    "CheckSetEstimate": "everylabel.model.evaluation.check_set:CheckSetEstimate",
    "Classifier": "everylabel.model.classifiers.base:Classifier",
    "EmbeddingClassifier": "everylabel.model.classifiers.embedding:EmbeddingClassifier",
    "Encoder": "everylabel.model.encoders.base:Encoder",
    "LabelIssue": "everylabel.model.label_quality.label_errors:LabelIssue",
    "MultiLabelClassifier": "everylabel.model.classifiers.multi_label:MultiLabelClassifier",
    "PoolPredictions": "everylabel.model.evaluation.stopping:PoolPredictions",
    "PseudoLabel": "everylabel.model.pseudo_labels.confident_crops:PseudoLabel",
    "PseudoLabelRule": "everylabel.model.pseudo_labels.base:PseudoLabelRule",
    "Query": "everylabel.model.query.base:Query",
    "QueryStrategy": "everylabel.model.query.base:QueryStrategy",
    "Round": "everylabel.model.round:Round",
    "StoppingAdvice": "everylabel.model.evaluation.stopping:StoppingAdvice",
    "TorchClassifier": "everylabel.model.classifiers.torch_classifier:TorchClassifier",
    "TrainableEncoder": "everylabel.model.encoders.trainable:TrainableEncoder",
    "TrainingData": "everylabel.model.round:TrainingData",
    "create_encoder": "everylabel.model.encoders:create",
    "create_query_strategy": "everylabel.model.query:create",
    "encoder_names": "everylabel.model.encoders:names",
    "query_strategy_names": "everylabel.model.query:names",
}


if not TYPE_CHECKING:  # or a type checker would take any name to be here

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value = import_module("importlib.metadata").version("everylabel")
        elif name in _DEFINED_IN:
            module, _, attribute = _DEFINED_IN[name].partition(":")
            value = getattr(import_module(module), attribute)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
