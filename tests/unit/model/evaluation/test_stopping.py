import numpy as np
import pytest

from everylabel.model.evaluation.stopping import PoolPredictions, cohen_kappa, stop_set, stopping_advice

CROPS = tuple(range(500))


def predictions(n_labels: int, labels) -> PoolPredictions:
    return PoolPredictions(n_labels, CROPS, tuple(labels))


def curve(errors, step: int = 10, seed: int = 0) -> list[PoolPredictions]:
    """Models whose predictions differ from the final ones in a share of crops: errors[i] after (i + 1) steps."""
    rng = np.random.default_rng(seed)
    final = rng.choice(["a", "b", "c"], size=500)
    found = []
    for number, share in enumerate(errors):
        wrong = rng.random(500) < share
        found.append(
            predictions((number + 1) * step, np.where(wrong, rng.choice(["a", "b", "c"], size=500), final))
        )
    return found


def test_stop_once_the_curve_is_flat_and_not_before():
    errors = [0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.0, 0.0, 0.0, 0.0]
    history = curve(errors)
    advised = [stopping_advice(history[:n]).stop for n in range(1, 11)]
    assert advised == [False] * 9 + [True]


def test_a_curve_that_still_rises_slowly_goes_on():
    assert not stopping_advice(curve([0.5, *[0.06] * 20])).stop


def test_one_jump_starts_the_wait_again():
    history = curve([0.0] * 6)
    assert stopping_advice(history).stop
    changed = predictions(70, ["a"] * 200 + list(history[-1].labels[200:]))
    assert not stopping_advice([*history, changed]).stop


def test_a_round_after_every_label_is_no_evidence_of_stability():
    """Ten models a label apart agree almost wholly while 100 labels are still worth 20 points."""
    errors = np.linspace(0.3, 0.27, 10)
    history = [predictions(50 + n, found.labels) for n, found in enumerate(curve([0.0] * 10))]
    assert len(errors) == len(history)
    advice = stopping_advice(history)
    assert not advice.stop
    assert advice.reason.startswith("too early")


def test_rounds_may_come_in_any_order_and_the_pool_may_grow():
    history = curve([0.0] * 6)
    grown = PoolPredictions(70, (*CROPS, 500, 501), (*history[0].labels, "a", "b"))
    assert stopping_advice([grown, *history[::-1]]).stop


def test_a_model_that_says_one_class_of_everything_is_not_called_stable():
    """Agreement by chance is whole: kappa is undefined, and labelling has hardly begun."""
    advice = stopping_advice([predictions(n, ["a"] * 500) for n in range(10, 100, 10)])
    assert (advice.stop, advice.kappa) == (False, None)


def test_kappa_against_a_worked_example():
    """20 of 50 both yes, 15 both no, 5 and 10 split: 0.4 (Cohen 1960's measure)."""
    one = PoolPredictions(1, tuple(range(50)), ("y",) * 25 + ("n",) * 25)
    other = PoolPredictions(2, tuple(range(50)), ("y",) * 20 + ("n",) * 5 + ("y",) * 10 + ("n",) * 15)
    assert cohen_kappa(one, other) == pytest.approx(0.4)


def test_the_stop_set_is_the_same_every_round_and_leaves_excluded_crops_out():
    assert (
        stop_set(100_000, np.array([], dtype=int)).tolist()
        == stop_set(100_000, np.array([], dtype=int)).tolist()
    )
    assert len(stop_set(100_000, np.array([], dtype=int))) == 1000
    assert set(stop_set(50, np.array([3, 4]))) == set(range(50)) - {3, 4}
