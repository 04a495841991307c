"""The course of a spot check: sets by confidence, the next look, the target and the forecast."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from everylabel.model.evaluation.certificate import Strata, Tally
from everylabel.model.evaluation.spot_check import looks_needed, plan_next_look, stratify

STRATA = Strata((600, 400, 300, 200, 100), (0.001, 0.004, 0.01, 0.03, 0.1), 0.02)


def _look_at(strata: Strata, tally: Tally, looks: int, wrong_in: tuple[int, ...] = ()) -> Tally:
    """Follow the plan; the first looks at the strata of `wrong_in` find a wrong label."""
    due = list(wrong_in)
    for _ in range(looks):
        stratum = plan_next_look(strata, tally).stratum
        assert stratum is not None
        wrong = stratum in due
        if wrong:
            due.remove(stratum)
        tally = tally.plus(stratum, wrong=wrong)
    assert not due
    return tally


def test_strata_are_divided_by_falling_confidence() -> None:
    confidences = np.random.default_rng(0).permutation(np.linspace(0.5, 1, 200))
    strata, crops = stratify(confidences, 0.02)
    assert sorted(np.concatenate(crops).tolist()) == list(range(200))
    assert strata.sizes == tuple(len(part) for part in crops)
    assert all(confidences[high].min() > confidences[low].max() for high, low in pairwise(crops))
    assert strata.expected == pytest.approx([1 - confidences[part].mean() for part in crops])


@pytest.mark.parametrize("n", [1, 2, 5, 11])
def test_a_handful_of_crops_is_divided_too(n: int) -> None:
    strata, crops = stratify(np.linspace(0.6, 0.9, n), 0.05)
    assert sum(strata.sizes) == n == sum(len(part) for part in crops)
    assert plan_next_look(strata, Tally.empty(len(crops))).is_over, "looking at all of them would be as cheap"


def test_looks_are_spread_over_the_target_in_proportion() -> None:
    tally = _look_at(STRATA, Tally.empty(5), 100)
    target = plan_next_look(STRATA, tally).target
    share = tally.looks[: target + 1] / np.asarray(STRATA.sizes[: target + 1])
    assert share.max() - share.min() < 2 / min(STRATA.sizes[: target + 1])


def test_if_all_are_right_a_set_is_certified_after_as_many_looks_as_were_announced() -> None:
    tally, announced = Tally.empty(5), 0
    while (plan := plan_next_look(STRATA, tally)).stratum is not None:
        announced = looks_needed(STRATA, plan.target, 0.0)
        tally = tally.plus(plan.stratum, wrong=False)
    assert plan.certified
    assert plan.wrong_at_most <= 0.02 * sum(STRATA.sizes[: plan.target + 1])
    assert tally.looks.sum() == pytest.approx(announced, abs=5)
    assert 130 < announced < 170


def test_the_target_shrinks_when_the_least_confident_crops_turn_out_wrong_and_it_goes_on() -> None:
    tally = _look_at(STRATA, Tally.empty(5), 60)
    before = plan_next_look(STRATA, tally).target
    for _ in range(3):
        tally = tally.plus(before, wrong=True)
    assert plan_next_look(STRATA, tally).target < before
    while (plan := plan_next_look(STRATA, tally)).stratum is not None:
        tally = tally.plus(plan.stratum, wrong=False)
    assert plan.certified
    assert plan.target < before
    assert plan.wrong_at_most <= 0.02 * sum(STRATA.sizes[: plan.target + 1])


def test_one_early_error_does_not_end_it() -> None:
    tally = Tally.empty(5).plus(0, wrong=True)
    assert not plan_next_look(STRATA, tally).is_over


def test_when_the_most_confident_are_wrong_too_it_gives_up_soon() -> None:
    tally = Tally.empty(5)
    looks = 0
    while (plan := plan_next_look(STRATA, tally)).stratum is not None:
        tally = tally.plus(plan.stratum, wrong=looks % 5 == 0)
        looks += 1
    assert not plan.certified
    assert plan.is_over
    assert looks < 60
    assert plan.wrong_at_most > 0.02 * sum(STRATA.sizes[: plan.target + 1])


def test_errors_make_a_certificate_dearer() -> None:
    clean, few, more = (looks_needed(STRATA, 3, rate) for rate in (0.0, 0.003, 0.005))
    assert clean < few < more < sum(STRATA.sizes[:4])
