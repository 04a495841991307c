"""How far labels can be trusted: suspected label issues, and the consensus of several annotators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.label_quality.consensus import Consensus, CropConsensus, find_consensus
    from everylabel.model.label_quality.label_errors import (
        LabelAudit,
        LabelIssue,
        audit_labels,
        detect_label_errors,
    )
    from everylabel.model.label_quality.set_consensus import find_set_consensus

__all__ = [
    "Consensus",
    "CropConsensus",
    "LabelAudit",
    "LabelIssue",
    "audit_labels",
    "detect_label_errors",
    "find_consensus",
    "find_set_consensus",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Consensus": "consensus",
        "CropConsensus": "consensus",
        "LabelAudit": "label_errors",
        "LabelIssue": "label_errors",
        "audit_labels": "label_errors",
        "detect_label_errors": "label_errors",
        "find_consensus": "consensus",
        "find_set_consensus": "set_consensus",
    },
)
