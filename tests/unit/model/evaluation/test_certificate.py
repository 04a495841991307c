"""The bound on wrong labels: that it holds is proved here by counting every outcome, and by simulation."""

from __future__ import annotations

from functools import cache
from itertools import product
from math import comb, prod

import numpy as np
import pytest
from scipy.special import logsumexp

from everylabel.model.evaluation.certificate import Strata, Tally
from everylabel.model.evaluation.spot_check import SpotCheckPlan, allowed_errors, plan_next_look


def _tally(looks: tuple[int, ...], wrong: tuple[int, ...]) -> Tally:
    return Tally(np.asarray(looks), np.asarray(wrong))


def _one(size: int, max_error: float, expected: float = 0.01) -> Strata:
    return Strata((size,), (expected,), max_error)


def _looks_until_certified(strata: Strata) -> int:
    allowed = int(allowed_errors(strata)[0])
    return next(
        n
        for n in range(1, strata.sizes[0])
        if strata.wrong_at_most(_tally((n,), (0,)), allowed)[0] <= allowed
    )


def test_59_right_in_a_row_certify_5_percent_and_149_certify_2_percent_almost() -> None:
    assert 59 <= _looks_until_certified(_one(10**6, 0.05)) <= 64
    assert 149 <= _looks_until_certified(_one(10**6, 0.02)) <= 160


def test_looking_at_every_crop_leaves_nothing_to_doubt() -> None:
    strata = Strata((6, 4), (0.1, 0.2), 0.2)
    assert strata.wrong_at_most(_tally((6, 4), (1, 2))).tolist() == [0, 0]


def test_without_a_look_everything_may_be_wrong() -> None:
    assert _one(50, 0.1).wrong_at_most(Tally.empty(1)).tolist() == [50]


def test_more_errors_found_never_lower_the_bound_on_all_errors() -> None:
    strata = Strata((60, 40), (0.01, 0.05), 0.1)
    for looks in ((20, 15), (40, 10)):
        for stratum in (0, 1):
            totals = []
            for found in range(8):
                wrong = (found, 1) if stratum == 0 else (1, found)
                tally = _tally(looks, wrong)
                totals.append(strata.wrong_at_most(tally) + np.cumsum(tally.wrong))
            assert (np.diff(totals, axis=0) >= 0).all()


def test_the_answers_of_all_possibilities_have_probability_1_under_the_prior() -> None:
    strata = Strata((5, 4), (0.05, 0.3), 0.1)
    total = 0.0
    for answers in product((0, 1), repeat=6):
        wrong = (sum(answers[:3]), sum(answers[3:]))
        total += float(np.exp(logsumexp(strata._log_scenarios(_tally((3, 3), wrong)))))
    assert total == pytest.approx(1)


def test_the_bound_is_the_largest_number_of_errors_that_the_answers_do_not_refute() -> None:
    # Every combination of errors is tried here, with binomial coefficients instead of gamma functions.
    strata = Strata((9, 7), (0.05, 0.2), 0.2)
    for looks in ((4, 3), (8, 2), (9, 6)):
        for wrong in product(range(3), repeat=2):
            tally = _tally(looks, wrong)
            prior = float(np.exp(logsumexp(strata._log_scenarios(tally))))
            left = [
                (w0 - wrong[0], w1 - wrong[1])
                for w0, w1 in product(range(10), range(8))
                if 20 * _probability(strata.sizes, looks, wrong, (w0, w1)) > prior
            ]
            expected = [max(first for first, _ in left), max(first + second for first, second in left)]
            assert strata.wrong_at_most(tally).tolist() == expected


def _probability(
    sizes: tuple[int, ...], looks: tuple[int, ...], wrong: tuple[int, ...], errors: tuple[int, ...]
) -> float:
    """Return the probability of the answers in one order."""
    if any(w < s or size - w < n - s for size, n, s, w in zip(sizes, looks, wrong, errors, strict=True)):
        return 0.0
    return prod(
        comb(size - n, w - s) / comb(size, w)
        for size, n, s, w in zip(sizes, looks, wrong, errors, strict=True)
    )


STRATA = Strata((40, 35, 30), (0.002, 0.01, 0.05), 0.1)
"""Its sets may have 4, 7 and 10 errors."""


@pytest.mark.parametrize(
    "errors",
    [(5, 4, 3), (0, 0, 11), (11, 0, 0), (2, 3, 6)],
    ids=["even", "among the least confident", "among the most confident", "falling"],
)
def test_sets_with_too_many_errors_are_certified_in_at_most_5_percent_of_the_runs(
    errors: tuple[int, ...],
) -> None:
    # Somebody looks until any set is certified; whether the confidences are right does not matter.
    runs, false = 600, 0
    for seed in range(runs):
        target = _certified_set(STRATA, errors, seed)
        false += target is not None and sum(errors[: target + 1]) > allowed_errors(STRATA)[target]
    assert false <= 0.05 * runs


def test_a_set_whose_labels_are_right_is_certified() -> None:
    assert all(_certified_set(STRATA, (0, 0, 0), seed) is not None for seed in range(20))


def _certified_set(strata: Strata, errors: tuple[int, ...], seed: int) -> int | None:
    """Return the set that a spot check ends with, if it certifies any."""
    rng = np.random.default_rng(seed)
    wrong = [rng.permutation(size) < w for size, w in zip(strata.sizes, errors, strict=True)]
    looks, found = [0] * len(wrong), [0] * len(wrong)
    while True:
        plan = _plan(strata, tuple(looks), tuple(found))
        if plan.stratum is None:
            return plan.target if plan.certified else None
        found[plan.stratum] += int(wrong[plan.stratum][looks[plan.stratum]])
        looks[plan.stratum] += 1


@cache
def _plan(strata: Strata, looks: tuple[int, ...], wrong: tuple[int, ...]) -> SpotCheckPlan:
    return plan_next_look(strata, _tally(looks, wrong))


@pytest.mark.parametrize(
    ("sizes", "expected", "max_error"),
    [((), (), 0.1), ((3,), (0.1, 0.2), 0.1), ((0,), (0.1,), 0.1), ((3,), (0.1,), 0.0), ((3,), (0.1,), 1.0)],
)
def test_strata_that_make_no_sense_are_refused(
    sizes: tuple[int, ...], expected: tuple[float, ...], max_error: float
) -> None:
    with pytest.raises(ValueError, match=r"stratum|between"):
        Strata(sizes, expected, max_error)
