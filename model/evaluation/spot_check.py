"""The course of a spot check: which crop to look at next, which set to certify, and what it will still cost.

None of these choices can make a bound of `certificate` wrong: they may be as clever, or as mistaken, as they like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.evaluation.certificate import Strata, Tally

_SHARES = (0.2, 0.35, 0.5, 0.65, 0.76, 0.84, 0.9, 0.95, 1.0)
"""Where the strata end, as shares of all crops, the most confident first."""
_PATIENCE = 1.2
"""So many errors are expected, if `max_error` are wrong, before it is believed that no set can be certified ..."""
_ENOUGH_ERRORS = 3
"""... unless so many were found in the best of them."""
_LOOKED_AT = -np.expm1(np.linspace(-0.005, -3, 300))
"""The shares of a set that looks are planned for."""
_UNSEEN_CONFIDENCE = 0.5
"""A set is not certified while its crops that nobody has looked at are rather worse than `max_error`.

That happens where most of the crops were looked at and the errors found are what makes the set good enough.
"""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SpotCheckPlan:
    """The state of a spot check, and what to do next."""

    target: int
    """The number of the set that is worth certifying: strata 0 to `target`."""
    certified: bool
    """True if that set is certified now; nothing larger is then worth the looks."""
    stratum: int | None
    """Where to look next; None if the set is certified, or none is worth it."""
    looks_left: int
    """The looks that the target is expected to take from here on."""
    wrong_at_most: int
    """The bound on the wrong labels in the target, those that were found included."""
    expected_error: float
    """The share of wrong labels in the target that the looks and the confidences let expect."""

    @property
    def is_over(self) -> bool:
        """True if the set is certified, or if no set can be certified with fewer looks than it has crops."""
        return self.stratum is None


def stratify(confidences: NDArray[Any], max_error: float) -> tuple[Strata, list[NDArray[np.intp]]]:
    """Divide crops into strata by the model's confidence.

    Args:
        confidences: (n,) the calibrated confidence of each crop's label, 0 to 1.
        max_error: The highest share of wrong labels to accept.

    Returns:
        The strata, and the crops of each, as positions in `confidences`.

    Raises:
        ValueError: There is no crop, or `max_error` does not lie between 0 and 1.
    """
    order = np.argsort(-confidences, kind="stable")
    ends = np.unique(np.round(np.asarray(_SHARES) * len(order)).astype(np.intp))
    crops = [part for part in np.split(order, ends[ends < len(order)]) if len(part)]
    expected = tuple(float(1 - confidences[part].mean()) for part in crops)
    return Strata(tuple(len(part) for part in crops), expected, max_error), crops


def allowed_errors(strata: Strata) -> NDArray[np.int64]:
    """Return how many labels of each set may be wrong, (m,) int."""
    return np.floor(strata.max_error * np.cumsum(strata.sizes) + _ROUNDING).astype(np.int64)


def plan_next_look(strata: Strata, tally: Tally) -> SpotCheckPlan:
    """Return what to do after these looks.

    The target is the set with the most crops accepted for each look it takes in all. It is chosen anew after every
    look: once a set has more errors than expected, a smaller one is worth more, and the looks at it count already.
    """
    found, allowed = np.cumsum(tally.wrong), allowed_errors(strata)
    sizes, seen = np.cumsum(strata.sizes), np.cumsum(tally.looks)
    bounds, certified = _bounds(strata, tally, allowed)
    errors = _expected_errors(strata, tally)
    left = np.where(certified, 0, _looks_left(strata, tally, errors))
    accepted = np.maximum(sizes - seen - left, 0)
    worth = np.where(accepted >= left, accepted / np.maximum(tally.looks.sum() + left, 1), 0)
    target = int(np.flatnonzero(worth == worth.max())[-1])
    if worth[target] <= 0:
        target = int((errors / sizes).argmin())
        early = tally.looks.sum() * strata.max_error < _PATIENCE and found[target] < _ENOUGH_ERRORS
        over = allowed[target] == 0 or seen[target] == sizes[target] or not early
    else:
        over = bool(certified[target])
    return SpotCheckPlan(
        target=target,
        certified=bool(certified[target] and worth[target] > 0),
        stratum=None if over else _next_stratum(strata, tally, target),
        looks_left=int(left[target]),
        wrong_at_most=int(min(bounds[target], sizes[target])),
        expected_error=float(errors[target] / sizes[target]),
    )


def _bounds(
    strata: Strata, tally: Tally, allowed: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the bound on the wrong labels of each set, and whether the set is certified."""
    found = np.cumsum(tally.wrong)
    unseen = np.cumsum(np.asarray(strata.sizes) - tally.looks)
    limit = int(allowed.max())
    bounds = found + strata.wrong_at_most(tally, limit)
    rather = strata.wrong_at_most(tally, limit, _UNSEEN_CONFIDENCE)
    return bounds, (bounds <= allowed) & (rather <= strata.max_error * unseen + _ROUNDING)


@dataclass(frozen=True)
class Cost:
    """The looks that a certificate is expected to take, said before the first."""

    crops: int
    """The crops of the set that it begins with."""
    if_all_right: int
    """The looks if no label is wrong."""
    error_rate: float
    if_some_wrong: int
    """The looks if `error_rate` of the labels are wrong."""


def expected_cost(strata: Strata, plan: SpotCheckPlan) -> Cost:
    """Return what a spot check that begins with this plan is expected to take."""
    some = strata.max_error / 4
    return Cost(
        sum(strata.sizes[: plan.target + 1]),
        looks_needed(strata, plan.target, 0.0),
        some,
        looks_needed(strata, plan.target, some),
    )


def looks_needed(strata: Strata, target: int, error_rate: float) -> int:
    """Return how many looks at a set certify it if errors turn up evenly, at a rate of `error_rate`."""
    sizes = np.asarray(strata.sizes[: target + 1])
    least, most = 0, int(sizes.sum())
    while least < most:
        looks = (least + most) // 2
        if _certifies(strata, target, looks, round(looks * error_rate)):
            most = looks
        else:
            least = looks + 1
    return least


def _certifies(strata: Strata, target: int, looks: int, wrong: int) -> bool:
    """Return whether so many looks, in proportion to the strata, certify a set; the least confident are wrong."""
    m, allowed = len(strata.sizes), int(allowed_errors(strata)[target])
    if wrong > allowed:
        return False
    sizes = np.asarray(strata.sizes[: target + 1])
    ends = np.round(np.cumsum(sizes) * looks / sizes.sum()).astype(np.int64)
    at = np.diff(ends, prepend=0)
    found = np.zeros_like(at)
    for k in reversed(range(len(at))):
        found[k] = min(at[k], wrong - found.sum())
    more = np.zeros(m - len(at), dtype=np.int64)
    tally = Tally(np.concatenate([at, more]), np.concatenate([found, more]))
    return bool(_bounds(strata, tally, allowed_errors(strata))[1][target])


def _next_stratum(strata: Strata, tally: Tally, target: int) -> int:
    """Return the stratum of the target with the smallest share of looks: so all have about the same."""
    sizes, looks = np.asarray(strata.sizes[: target + 1]), tally.looks[: target + 1]
    share = np.where(looks < sizes, (looks + 0.5) / sizes, np.inf)
    return int(share.argmin())


def _expected_errors(strata: Strata, tally: Tally) -> NDArray[np.float64]:
    """Return how many labels of each set are probably wrong, those that were found included, (m,)."""
    unseen = np.asarray(strata.sizes) - tally.looks
    return np.asarray(np.cumsum(tally.wrong + unseen * strata.error_rates(tally)))


def _looks_left(strata: Strata, tally: Tally, errors: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the looks that each set is expected to take from here on; all of its crops if it has too many errors.

    The evidence that a look brings is, on average, the divergence of the expected rate from the rate to refute. Looks
    that bring a stratum up to the share of the others count, and those at strata that have more than their share do not.
    """
    sizes = np.cumsum(strata.sizes)[:, None]
    rate = np.clip(errors[:, None] / sizes, _ROUNDING, 1 - _ROUNDING)
    seen = np.cumsum(tally.looks)[:, None] / sizes
    enough = (rate < strata.max_error) & (seen <= _LOOKED_AT)
    unseen_worse = strata.max_error * (1 - _LOOKED_AT) + rate * _LOOKED_AT
    for refuted, confidence in ((strata.max_error, strata.confidence), (unseen_worse, _UNSEEN_CONFIDENCE)):
        gain = rate * np.log(rate / refuted) + (1 - rate) * np.log((1 - rate) / (1 - refuted))
        wanted = 0.5 - np.log1p(-confidence)  # what a prior of some half the truth costs is added
        enough &= -np.log1p(-_LOOKED_AT) * gain * sizes >= wanted
    share = np.where(enough.any(axis=1), _LOOKED_AT[enough.argmax(axis=1)], 1.0)
    missing = np.ceil(np.multiply.outer(share, strata.sizes)) - tally.looks
    looks: NDArray[np.int64] = np.tril(np.maximum(missing, 0)).sum(axis=1).astype(np.int64)
    return np.maximum(looks, 1)
