"""Labels nobody gave, for training and to show: the contract of a rule, and two rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.pseudo_labels.agreement import AgreementRule
    from everylabel.model.pseudo_labels.base import PseudoLabelQuery, PseudoLabelRule, TrainingPseudoLabels
    from everylabel.model.pseudo_labels.confident_crops import ConfidentCrops, PseudoLabel
    from everylabel.model.pseudo_labels.pool_graph import PoolGraph
    from everylabel.model.pseudo_labels.rules import create_rule
    from everylabel.model.pseudo_labels.threshold import PseudoLabeler, ThresholdRule

__all__ = [
    "AgreementRule",
    "ConfidentCrops",
    "PoolGraph",
    "PseudoLabel",
    "PseudoLabelQuery",
    "PseudoLabelRule",
    "PseudoLabeler",
    "ThresholdRule",
    "TrainingPseudoLabels",
    "create_rule",
]

__getattr__ = lazy_names(
    __name__,
    {
        "AgreementRule": "agreement",
        "ConfidentCrops": "confident_crops",
        "PoolGraph": "pool_graph",
        "PseudoLabel": "confident_crops",
        "PseudoLabelQuery": "base",
        "PseudoLabelRule": "base",
        "PseudoLabeler": "threshold",
        "ThresholdRule": "threshold",
        "TrainingPseudoLabels": "base",
        "create_rule": "rules",
    },
)
