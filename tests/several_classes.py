"""A project in which a crop may have several classes, beside the stand-in for Label Studio: what tests of its pages share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everylabel.backend.bootstrap import Backend
from everylabel.model import label_set
from tests.stand_in_label_studio import StandIn, choice, label_config

NAMES = ("even", "odd", "above one", "one stroke")
CONFIG = label_config(*NAMES).replace("<Choices ", '<Choices choice="multiple" ')
SETS = {"0": ["even"], "1": ["odd", "one stroke"], "2": ["above one", "even"], "3": ["above one", "odd"]}
"""The classes of each digit."""


def ticked(*names: str) -> list[dict[str, Any]]:
    """Return the result of an annotation in which a person ticked these."""
    (region,) = choice("")
    return [{**region, "value": {"choices": [*names]}}]


@pytest.fixture
def several(
    stand_in: StandIn,
    services: Backend,
    digit_crops: list[tuple[str, str]],
    send: Callable[[dict[str, Any]], object],
) -> dict[int, str]:
    """Project 1 with 60 digits, 24 of them labelled, and a round; Ann and Bob may label: true label by task."""
    stand_in.people |= {"anns-token": 7, "bobs-token": 8}
    stand_in.add_project(1, CONFIG)
    ids = stand_in.add_tasks(1, *(image for image, _ in digit_crops[:60]))
    services.store.save_project(1, connected=True)
    services.loop.catch_up(1)
    names = dict(zip(ids, (SETS[digit] for _, digit in digit_crops[:60]), strict=True))
    for task in ids[:24]:
        send(stand_in.annotate(task, None, result=ticked(*names[task])))
    services.loop.catch_up(1)
    return {task: label_set.join(held) for task, held in names.items()}
