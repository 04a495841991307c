"""What `everylabel benchmark --pool` measures is measured, and what cannot be is said."""

from __future__ import annotations

import time

import numpy as np
import pytest
from typer.testing import CliRunner

from scripts import measure_round
from scripts.cli import app
from scripts.measure_round import (
    Choosing,
    RoundCost,
    alone,
    classic_hybrid,
    make_embeddings,
    pool_tables,
    ratios,
    round_cost,
)


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    return make_embeddings(tmp_path_factory.mktemp("pool") / "pool.rows", 3000, 32, lambda done: None)


def sleep_for_long() -> None:
    time.sleep(60)


def take_too_much() -> None:
    raise MemoryError("Unable to allocate 80. GiB\nfor an array")


def test_a_round_is_measured_with_its_phases_and_its_memory(embeddings):
    cost = RoundCost(**round_cost(embeddings, 3000, 5))
    assert (cost.crops, cost.batch, cost.file_bytes) == (3000, 5, 3000 * 32 * 2)
    assert 0 < sum(cost.phases.values()) <= cost.seconds
    assert cost.peak_bytes >= cost.program_bytes > 0
    assert min(cost.predict_seconds, cost.copy_seconds, cost.copy_again_seconds) > 0


def test_the_classic_hybrid_chooses_and_everything_is_shown_beside_it(embeddings):
    classic = Choosing(**classic_hybrid(embeddings, 2000, 20))
    assert classic.note == "20 crops"
    assert classic.score_seconds > 0 < classic.select_seconds
    phases = {"train": 0.5, "score": 1.0, "select": 0.5}
    rounds = [
        RoundCost(n, batch, n / 100, n / 100, phases, 40 * n, n, 20 * n, 2.0, 3.0, 4.0, 1.0)
        for n in (10, 100)
        for batch in (5, 50, 500, 200)
    ]
    choices = [Choosing("KMeans", 100, 200, 10.0, 30.0)]
    found = ratios(rounds, choices)
    assert found["peak memory / file"] == 2
    assert found["round of 50 at 100 / at 10"] == 10
    assert found["scoring / copy"] == 0.5
    assert found["scoring / copy into memory at hand"] == 2
    assert found["classic hybrid / everylabel, choosing 200"] == 60
    assert found["classic hybrid / everylabel, training, scoring and choosing 200"] == 20
    assert found["classic hybrid / whole round of everylabel, 200"] == 40
    shown = {
        "dim": 32,
        "labels": 100,
        "rounds": [vars(cost) for cost in rounds],
        "choosing": [vars(choice) for choice in choices],
        "ratios": found,
    }
    assert [table.row_count for table in pool_tables(shown)] == [8, 1, 7 + 1]


def test_embeddings_are_the_same_in_every_run_and_have_classes(embeddings, tmp_path):
    again = make_embeddings(tmp_path / "pool.rows", 3000, 32, lambda done: None)
    assert np.array_equal(again.read(3000), embeddings.read(3000))
    assert len(set(embeddings.classes)) == measure_round.CLASSES


@pytest.mark.parametrize(
    ("work", "why"),
    [(sleep_for_long, "more than 1 s"), (take_too_much, "MemoryError: Unable to allocate 80. GiB$")],
)
def test_what_takes_too_much_is_stopped_and_named(work, why, monkeypatch):
    seconds = 1.0 if work is sleep_for_long else None
    with pytest.raises(ChildProcessError, match=why):
        alone(work, seconds=seconds)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "--learning, --embed or --pool"),
        (["--pool", "--sizes", "many"], "1000 or more"),
        (["--pool", "--sizes", "9"], "'9'"),
    ],
)
def test_a_benchmark_says_what_it_wants(arguments, why):
    found = CliRunner().invoke(app, ["benchmark", *arguments])
    assert found.exit_code == 1
    assert why in found.output + found.stderr
