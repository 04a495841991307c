"""The pool on a plane: a map of all crops, and which of them hardly differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.visualization.near_duplicates import NearDuplicates, find_near_duplicates
    from everylabel.model.visualization.projection import lay_out, principal_components

__all__ = ["NearDuplicates", "find_near_duplicates", "lay_out", "principal_components"]

__getattr__ = lazy_names(
    __name__,
    {
        "NearDuplicates": "near_duplicates",
        "find_near_duplicates": "near_duplicates",
        "lay_out": "projection",
        "principal_components": "projection",
    },
)
