"""What `everylabel benchmark --pool` measures is measured, and what cannot be is said."""

from __future__ import annotations

import time

import numpy as np
import pytest
from typer.testing import CliRunner

from everylabel.model import encoders
from everylabel.scripts.benchmarks import (
    made_embeddings,
    measure_choosing,
    measure_performance,
    measure_round,
)
from everylabel.scripts.benchmarks.made_embeddings import make_embeddings, shape
from everylabel.scripts.benchmarks.measure_choosing import Choosing, choices, choose, classic_hybrid
from everylabel.scripts.benchmarks.measure_round import (
    RoundCost,
    ScoringCost,
    ratios,
    round_cost,
    scoring_cost,
)
from everylabel.scripts.benchmarks.own_process import alone
from everylabel.scripts.benchmarks.performance_tables import (
    classic_tables,
    ratio_tables,
    round_tables,
    strategy_tables,
)
from everylabel.scripts.cli import app

pytestmark = pytest.mark.extended


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    return make_embeddings(tmp_path_factory.mktemp("pool") / "pool.rows", 3000, shape("32"), silent)


def sleep_for_long() -> None:
    time.sleep(60)


def take_too_much() -> None:
    raise MemoryError("Unable to allocate 80. GiB\nfor an array")


def test_a_round_is_measured_with_its_phases_and_its_memory(embeddings):
    cost = RoundCost(**round_cost(embeddings, 3000, 5))
    assert (cost.crops, cost.batch, cost.file_bytes) == (3000, 5, 3000 * 32 * 2)
    assert 0 < sum(cost.phases.values()) <= cost.seconds
    assert cost.peak_bytes >= cost.program_bytes > 0


def test_scoring_is_measured_beside_the_memory(embeddings):
    cost = ScoringCost(**scoring_cost(embeddings, 3000))
    assert (cost.crops, cost.file_bytes) == (3000, 3000 * 32 * 2)
    assert min(cost.seconds, cost.processor_seconds, cost.copy_seconds, cost.copy_again_seconds) > 0


def test_an_encoder_by_name_gives_its_rows_and_its_head(embeddings, tmp_path):
    default = shape(encoders.DEFAULT)
    assert (default.dim, default.standardized) == (1888, 608)
    made = make_embeddings(tmp_path / "pool.rows", 1000, default, silent)
    assert made.read(1000).shape == (1000, 1888)
    assert made.shape.make_classifier().standardized == 608
    cost = RoundCost(**round_cost(made, 1000, 5))
    assert cost.file_bytes == 1000 * 1888 * 2
    assert embeddings.shape.make_classifier().standardized == 0


@pytest.mark.parametrize("shortlist", [3, 10])
def test_the_classic_hybrid_clusters_so_many_times_the_batch(embeddings, shortlist, monkeypatch):
    import sklearn.cluster  # noqa: PLC0415

    clustered = []

    class KMeans(sklearn.cluster.KMeans):
        def fit(self, rows):
            clustered.append((len(rows), self.n_clusters, self.n_init))
            return super().fit(rows)

    monkeypatch.setattr(sklearn.cluster, "KMeans", KMeans)
    classic = Choosing(**classic_hybrid(embeddings, 2000, 20, shortlist))
    assert set(clustered) == {(shortlist * 20, 20, 10)}
    assert classic.note == "20 crops"
    assert f"{shortlist} x batch" in classic.name
    assert classic.score_seconds > 0 < classic.select_seconds


def costs() -> tuple[list[RoundCost], list[ScoringCost], list[Choosing]]:
    phases = {"train": 0.5, "score": 1.0, "select": 0.5}
    rounds = [
        RoundCost(n, batch, n / 100, n / 100, phases, 40 * n, n, 20 * n)
        for n in (10, 100)
        for batch in (5, 50, 500, 200)
    ]
    scoring = [ScoringCost(n, 20 * n, 2.0, 3.0, 4.0, 1.0) for n in (10, 100)]
    classic = [
        Choosing("classic hybrid, 3 x batch", 100, 200, 10.0, 30.0),
        Choosing("classic hybrid, 10 x batch", 100, 200, 10.0, 90.0),
    ]
    return rounds, scoring, classic


def test_ratios_are_of_the_largest_pool_and_of_both_shortlists():
    found = ratios(*costs())
    assert found["peak memory / file"] == 2
    assert found["round of 50 at 100 / at 10"] == 10
    assert found["scoring / copy"] == 0.5
    assert found["scoring / copy into memory at hand"] == 2
    for shortlist, choosing, together in ((3, 60, 20), (10, 180, 50)):
        name = f"classic hybrid, {shortlist} x batch / everylabel"
        assert found[f"{name}, choosing 200"] == choosing
        assert found[f"{name}, training, scoring and choosing 200"] == together
    assert found["classic hybrid, 3 x batch / whole round of everylabel, 200"] == 40


def test_everything_measured_is_in_the_tables():
    rounds, scoring, classic = costs()
    pool = {
        **vars(shape("32")),
        "rounds": [vars(cost) for cost in rounds],
        "scoring": [vars(cost) for cost in scoring],
        "classic": [vars(choice) for choice in classic],
        "ratios": ratios(rounds, scoring, classic),
    }
    part = {"labels": 100, "compared": 200, "pools": [pool]}
    of_rounds, of_scoring = round_tables(part)
    assert len(of_rounds.rows) == 8
    assert [row[-1] for row in of_scoring.rows] == ["**0.50**", "**0.50**"]
    [beside] = classic_tables(part)
    assert [row[0] for row in beside.rows] == ["everylabel", *(choice.name for choice in classic)]
    assert beside.rows[1][-3:] == ("**60.0**", "**20.0**", "40.0")
    assert beside.rows[2][-3:] == ("**180.0**", "**50.0**", "100.0")
    [named] = ratio_tables(part)
    assert len(named.rows) == len(pool["ratios"])
    assert "embeddings of 32 numbers" in of_rounds.markdown()
    assert of_rounds.shown().row_count == 8


def test_one_size_has_no_growth():
    rounds, scoring, classic = costs()
    found = ratios([cost for cost in rounds if cost.crops == 100], scoring, classic)
    assert not [name for name in found if "at 100 /" in name]


def test_every_way_to_choose_is_tried_on_ever_larger_pools_until_one_is_too_large(embeddings, monkeypatch):
    assert [choice.crops for choice in choices(embeddings, "auto", [1000, 3000], 100.0)] == [1000, 3000]
    tried = []

    def too_large(function, embeddings, name, n, *, seconds):
        tried.append(n)
        if n > 1000:
            raise ChildProcessError(f"more than {seconds:.0f} s")
        return choose(embeddings, name, n)

    monkeypatch.setattr(measure_choosing, "alone", too_large)
    monkeypatch.setattr(measure_choosing.resource, "setrlimit", lambda *_: None)
    found = choices(embeddings, "classic hybrid, 3 x batch", [1000, 2000, 3000], 60.0)
    assert tried == [1000, 2000]
    assert found[0].select_seconds > 0
    assert (found[1].select_seconds, found[1].note) == (None, "more than 60 s")
    part = {"seconds_given": 60.0, "bytes_given": 10 << 30, "batch": 50}
    [table] = strategy_tables({**part, "choosing": [vars(choice) for choice in found]})
    assert table.rows[0][-1] == "more than 60 s"


def test_ways_to_choose_are_compared_on_the_same_pool():
    found = measure_choosing.ratios(
        [
            Choosing("auto", 1000, 50, None, 0.1),
            Choosing("auto", 2000, 50, None, 0.2),
            Choosing("CoreSet", 1000, 50, None, 0.3),
            Choosing("CoreSet", 2000, 50, None, 2.0),
            Choosing("CoreSet", 3000, 50, None, None, "more than 60 s"),
        ]
    )
    assert list(found) == ["CoreSet / everylabel, 50 of 1,000", "CoreSet / everylabel, 50 of 2,000"]
    assert list(found.values()) == pytest.approx([3, 10])


def test_a_strategy_of_scikit_activeml_chooses_too(embeddings, monkeypatch):
    pytest.importorskip("skactiveml.pool")
    monkeypatch.setattr(measure_choosing.resource, "setrlimit", lambda *_: None)
    found = Choosing(**choose(embeddings, "CoreSet", 1000))
    assert found.select_seconds > 0


def test_embeddings_are_the_same_in_every_run_and_have_classes(embeddings, tmp_path):
    again = make_embeddings(tmp_path / "pool.rows", 3000, shape("32"), silent)
    assert np.array_equal(again.read(3000), embeddings.read(3000))
    assert len(set(embeddings.classes)) == made_embeddings.CLASSES


@pytest.mark.parametrize(
    ("work", "why"),
    [(sleep_for_long, "more than 1 s"), (take_too_much, "MemoryError: Unable to allocate 80. GiB$")],
)
def test_what_takes_too_much_is_stopped_and_named(work, why):
    seconds = 1.0 if work is sleep_for_long else None
    with pytest.raises(ChildProcessError, match=why):
        alone(work, seconds=seconds)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "--learning, or --pool or --embed"),
        (["--learning", "--pool"], "--learning, or --pool or --embed"),
        (["--pool", "--sizes", "many"], "1000 or more"),
        (["--pool", "--sizes", "9"], "'9'"),
        (["--pool", "--dim", "1"], "two numbers or more"),
        (["--pool", "--dim", "direct-cnn"], "trained whole"),
        (["--pool", "--dim", "no-such-encoder"], "Unknown encoder"),
    ],
)
def test_a_benchmark_says_what_it_wants(arguments, why):
    found = CliRunner().invoke(app, ["benchmark", *arguments])
    assert found.exit_code == 1
    assert why in found.output + found.stderr


def test_the_pool_is_measured_by_one_command_which_writes_its_page(tmp_path, monkeypatch):
    """With the calls in this process: another one would import everything again."""
    monkeypatch.setattr(measure_round, "alone", lambda function, *given: function(*given))
    monkeypatch.setattr(measure_round, "REPEATS", 1)
    monkeypatch.setattr(measure_round, "BATCHES", (5, 50))
    monkeypatch.setattr(measure_round, "COMPARED", 20)
    monkeypatch.setattr(measure_performance, "peers_work", lambda: False)
    monkeypatch.setattr(measure_performance.measure_request_path, "installed", lambda: False)
    options = ["--sizes", "1000,2000", "--dim", "16,24", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, ["benchmark", "--pool", *options])
    assert result.exit_code == 0, result.output
    assert "scikit-activeml is not installed" in result.output
    assert "label-studio-ml 2.x is not installed" in result.output
    page = (tmp_path / "performance.md").read_text()
    assert "everylabel benchmark --pool --sizes 1000,2000 --dim 16,24\n" in page
    assert "embeddings of 24 numbers" in page
    assert "classic hybrid, 10 x batch" in page
    assert (tmp_path / "performance-rounds.png").stat().st_size > 10_000
