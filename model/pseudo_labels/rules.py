"""Pseudo-label rules by name."""

from __future__ import annotations

from everylabel.model.pseudo_labels.agreement import AgreementRule
from everylabel.model.pseudo_labels.base import PseudoLabelRule
from everylabel.model.pseudo_labels.threshold import ThresholdRule

DEFAULT = AgreementRule.name
_RULES: dict[str, type[PseudoLabelRule]] = {rule.name: rule for rule in (AgreementRule, ThresholdRule)}


def create_rule(name: str) -> PseudoLabelRule:
    """Make a pseudo-label rule by name.

    Raises:
        ValueError: there is no rule of this name; the message lists those there are.
    """
    if name not in _RULES:
        raise ValueError(f"pseudo_label_rule must be one of {', '.join(_RULES)}, got {name!r}")
    return _RULES[name]()
