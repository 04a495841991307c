"""The documentation says what the program is: settings, commands, routes, and examples that run."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everylabel.backend.settings import Settings
from everylabel.model.encoders import Encoder
from everylabel.model.query import QueryStrategy
from everylabel.model.session import ActiveLearningSession
from everylabel.model.testing import QueryStrategyContract
from everylabel.model.vectors import unit_rows
from everylabel.scripts import cli
from everylabel.scripts.docs import reference

REPOSITORY = Path(__file__).resolve().parents[3]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*REPOSITORY.glob("*.md"), *DOCS.glob("*.md")])
RENEW = "Run: python -m everylabel.scripts.docs.reference"


def test_every_setting_is_in_the_settings_page_as_it_is():
    assert (DOCS / "settings.md").read_text() == reference.settings_page(), RENEW
    for name in Settings.model_fields:
        field = Settings.model_fields[name]
        assert field.description, f"{name} says nothing of itself"


def test_every_command_and_route_is_in_the_reference_as_it_is():
    assert (DOCS / "reference.md").read_text() == reference.reference_page(), RENEW
    shown = (DOCS / "reference.md").read_text()
    assert "|  |\n" not in shown, "a route or an option has no description"
    for name in cli.COMMANDS:
        assert f"### everylabel {name}\n" in shown


def test_the_readme_names_every_command():
    readme = (REPOSITORY / "README.md").read_text()
    assert [name for name in cli.COMMANDS if f"everylabel {name}" not in readme] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_the_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


def example(kind: type) -> Any:
    """The class of this kind that docs/extending.md defines, made from the page's own text."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL)
    for block in (block for block in blocks if f"({kind.__name__})" in block):
        names: dict[str, Any] = {"__name__": "example"}
        exec(compile(block, "docs/extending.md", "exec"), names)
        made = [v for v in names.values() if isinstance(v, type) and issubclass(v, kind) and v is not kind]
        found = [cls for cls in made if cls.__module__ == "example"]
        if found:
            assert len([line for line in block.splitlines() if line.strip()]) <= 30, "thirty lines"
            return found[0]
    raise AssertionError(f"docs/extending.md has no {kind.__name__}")


class TestTheQueryStrategyOfThePage(QueryStrategyContract):
    """Every promise of the contract, kept by the example."""

    @pytest.fixture
    def strategy(self):
        return example(QueryStrategy)()


def test_a_session_labels_with_the_strategy_of_the_page():
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=120)
    pool = (rng.normal(size=(120, 8)) + 2 * truth[:, None]).astype(np.float32)
    session = ActiveLearningSession(pool, strategy=example(QueryStrategy)(), batch_size=5)
    for _ in range(6):
        asked = session.get_next_batch()
        session.add_labels(asked, [str(truth[index]) for index in asked])
        session.run_round()
    assert len(session.labels) >= 30


def test_the_encoder_of_the_page_gives_every_crop_the_same_row_beside_any_other():
    encoder = example(Encoder)()
    crops = np.random.default_rng(0).integers(0, 256, size=(40, 64, 64, 3), dtype=np.uint8)
    rows = encoder.encode(crops)
    assert rows.shape == (40, 192)
    assert rows.dtype == np.float16
    assert (encoder.encode(crops[7:8]) == rows[7:8]).all()
    assert encoder.encode(crops[:0]).shape == (0, 192)
    assert encoder.signature == "colour-layout 64px 192xfloat16"
    first_field = crops[0, :8, :8].reshape(-1, 3).mean(axis=0) / 255
    assert rows[0, :3] == pytest.approx(first_field, abs=1e-3)
    assert encoder.make_classifier().fit(rows, ["a", "b"] * 20).classes_ == ("a", "b")


def test_the_encoder_of_the_page_reads_words_as_the_page_says(monkeypatch):
    encoder = example(Encoder)()
    assert not encoder.has_text_tower
    (method,) = re.findall(
        r"```python\n( {4}def encode_words.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL
    )
    names: dict[str, Any] = {"np": np, "FIELDS": 8}
    exec(compile(textwrap.dedent(method), "docs/extending.md", "exec"), names)
    monkeypatch.setattr(type(encoder), "encode_words", names["encode_words"])
    assert encoder.has_text_tower
    crops = np.full((3, 64, 64, 3), 30, dtype=np.uint8)
    for colour in range(3):
        crops[colour, :, :, colour] = 220
    rows = encoder.encode(crops).astype(np.float32)
    found = encoder.encode_words(["something blue", "a green field", "red"])
    assert (found.shape, found.dtype) == ((3, 192), np.float32)
    assert (unit_rows(rows) @ unit_rows(found).T).argmax(axis=0).tolist() == [2, 1, 0]
    assert encoder.encode_words([]).shape == (0, 192)
