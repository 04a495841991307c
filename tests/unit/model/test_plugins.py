"""Query strategies and encoders of other packages: found by name, refused with the way out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from everylabel.model import encoders, query
from everylabel.model.encoders.base import Encoder
from everylabel.model.query import QueryStrategy

MODULE = f"""
from {encoders.__name__} import Encoder
from {query.__name__} import QueryStrategy


class First(QueryStrategy):
    name = "first"

    def __init__(self, skip: int = 0) -> None:
        self.skip = skip

    def select(self, query, batch_size):
        return query.candidates[self.skip : self.skip + batch_size].tolist()


class Tokens(Encoder):
    reads = "text"

    def __init__(self, device="auto", threads=None):
        self.device = device

    def make_classifier(self):
        raise NotImplementedError

    def _encode_batch(self, crops):
        return crops


class Other:
    pass
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a package: its module and what pip would write about it. Returns the module's name."""
    name = f"plugin_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    install(
        tmp_path,
        "plugin-of-a-test",
        f"[everylabel.query_strategies]\nfirst = {name}:First\nbroken = no_such_module:First\nother = {name}:Other\n"
        f"auto = {name}:First\n[everylabel.encoders]\ntokens = {name}:Tokens\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def install(folder: Path, package: str, entry_points: str) -> None:
    about = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(entry_points)


def test_a_strategy_is_found_by_its_entry_point_and_by_its_path(plugin: str) -> None:
    for name in ("first", f"{plugin}:First"):
        made = query.create(name, skip=2)
        assert isinstance(made, QueryStrategy)
        asked = query.Query(np.eye(9), np.arange(9), np.zeros(0, int), np.zeros(0, int), None, 0)
        assert made.select(asked, 3) == [2, 3, 4]


def test_an_encoder_is_found_and_what_it_reads_is_known_before_it_is_made(plugin: str) -> None:
    assert encoders.reads("tokens") == encoders.reads(f"{plugin}:Tokens") == "text"
    made = encoders.create("tokens", device="cpu")
    assert isinstance(made, Encoder)
    assert made.device == "cpu"


def test_our_own_names_always_mean_ours(plugin: str) -> None:
    assert type(query.create("auto")).__module__ == f"{query.__name__}.auto"


def test_an_unknown_name_is_answered_with_all_there_are_and_the_way_out(plugin: str) -> None:
    with pytest.raises(
        ValueError, match=r"unknown query strategy 'frist': .*hybrid.*first.*package\.module:Class"
    ):
        query.create("frist")
    with pytest.raises(
        ValueError, match=r"Unknown encoder 'token'.*efficientnet-lite0.*tokens.*package\.module:Class"
    ):
        encoders.create("token")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", r"plugin-of-a-test enters in everylabel\.query_strategies.*no_such_module.*Install"),
        ("no_such_module:First", r"cannot be imported.*no_such_module"),
        ("{plugin}:Last", r"has no Last"),
        ("other", r"not a subclass of QueryStrategy: see .*query\.base"),
        ("{plugin}:Tokens", r"not a subclass of QueryStrategy"),
    ],
)
def test_a_plugin_that_cannot_be_used_says_what_to_mend(plugin: str, name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        query.create(name.format(plugin=plugin))


def test_a_name_that_two_packages_claim_is_refused(plugin: str, tmp_path: Path) -> None:
    install(tmp_path, "second-plugin", f"[everylabel.query_strategies]\nfirst = {plugin}:Other\n")
    with pytest.raises(ValueError, match=r"entered twice.*:First and .*:Other"):
        query.create("first")
