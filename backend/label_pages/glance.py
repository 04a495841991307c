"""How fast a person can look at a page of crops: what is confirmed faster was not looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from everylabel.backend.label_studio.annotators import annotator_name

if TYPE_CHECKING:
    from everylabel.backend.store import FastPages

FASTEST_LOOK_SECONDS = 0.07
"""The shortest time from one crop to the next: the eye movement of the quickest person in Card, Moran and Newell, The
Psychology of Human-Computer Interaction (1983), chapter 2, who give 230 ms and a range of 70 to 700 ms."""


def is_too_fast(seconds: float, crops: int) -> bool:
    """Return whether nobody can have looked at so many crops, one after the other, in so many seconds."""
    return seconds < FASTEST_LOOK_SECONDS * crops


def fast_pages_in_words(found: Iterable[FastPages], names: Mapping[int, str]) -> list[str]:
    """Return a sentence for each person who confirmed pages without looking, for the project's owner.

    Args:
        found: The people, and how many such pages they confirmed.
        names: The name of each annotator who has one.
    """
    return [
        f"{annotator_name(one.annotator, names)} confirmed "
        f"{'1 page' if one.pages == 1 else f'{one.pages} pages'} with {one.crops} labels faster than anybody can look at "
        f"them, the fastest in {one.shortest:.1f} s: review these labels, or ask"
        for one in found
    ]
