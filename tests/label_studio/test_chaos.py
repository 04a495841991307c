"""The short form of `python -m tests.measure.chaos`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.everylabel_process import EveryLabel
from tests.measure import chaos

if TYPE_CHECKING:
    from everylabel.scripts.replay.datasets import Dataset
    from tests.conftest import LabelStudio


@pytest.fixture
def backend(label_studio: "LabelStudio", tmp_path: Path) -> Iterator[EveryLabel]:
    backend = EveryLabel(label_studio.url, label_studio.token, tmp_path)
    backend.start()
    yield backend
    backend.stop()


@pytest.mark.timeout(420)
def test_nothing_is_lost_while_the_backend_is_killed_and_label_studio_restarts(
    label_studio: "LabelStudio", backend: EveryLabel, digits: "Dataset"
) -> None:
    project = label_studio.digits_project(digits, 120, "chaos")
    backend.connect(project.id)
    tokens = chaos.sign_up(label_studio, ["ada", "grace"])
    seen = chaos.run(label_studio, backend, project, tokens, annotations=50, kills=4, restarts=1, seed=3)
    assert seen.kills.total() == 4
    chaos.check(label_studio, backend, project, seen)
