"""An upper bound on the wrong labels of a set of crops, from a spot check that may be stopped after any look.

The crops are divided into strata by the model's confidence. Each look takes a crop at random from one stratum, and a
person says whether the machine's label of it is right. The bound holds with the stated probability for all sets of
the most confident strata, and after all looks, at once: whoever stops when the bound looks good is not misled.

The method is the prior-posterior ratio of Waudby-Smith and Ramdas, "Confidence sequences for sampling without
replacement" (arXiv:2006.04347), which is a betting martingale (arXiv:2010.09686), made for strata as in Spertus and
Stark, "Sweeter than SUITE" (arXiv:2207.03379). Let `W` be the number of wrong labels in each stratum. The likelihood of
the answers under a prior, divided by their likelihood under `W`, is a martingale with mean 1 if `W` is the truth,
whichever stratum is looked at next. By Ville's inequality it ever reaches 20 with a probability of at most 5 %. So the
values of `W` for which it has not reached 20 contain the truth with 95 % probability, and the bound of a set is
the largest number of wrong labels among them. The prior decides how many looks it takes, and not whether the
bound holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
"""How probable it is that a bound holds."""
_ALL_RIGHT = 0.4
"""Prior probability that no label at all is wrong: the higher, the fewer looks if all are right."""
_SCALES = {0.1: 0.2, 0.3: 0.15, 1.0: 0.1, 4.0: 0.05}
"""Prior probability that the errors are so many times those that the confidences let expect."""
_EVEN = 0.25
_EVEN_PROBABILITY = 0.1
"""Prior probability that the error rate is `_EVEN` times `max_error`, whatever the confidence."""
_PRIOR_LOOKS = 100.0
"""Each of these rates is as uncertain as if it came from so many looks."""


@dataclass(frozen=True)
class Tally:
    """The looks so far, by stratum."""

    looks: NDArray[np.int64]
    """(m,) looks in each stratum."""
    wrong: NDArray[np.int64]
    """(m,) how many of them found a wrong label."""

    @classmethod
    def empty(cls, strata: int) -> Tally:
        """Return the tally before the first look."""
        return cls(np.zeros(strata, dtype=np.int64), np.zeros(strata, dtype=np.int64))

    def plus(self, stratum: int, *, wrong: bool) -> Tally:
        """Return the tally after one more look."""
        looks, found = self.looks.copy(), self.wrong.copy()
        looks[stratum] += 1
        found[stratum] += wrong
        return Tally(looks, found)


@dataclass(frozen=True)
class Strata:
    """Strata of crops, the most confident first, and what is expected of their labels before the first look.

    Set number `k` consists of the strata 0 to `k`.

    Raises:
        ValueError: A number is out of range.
    """

    sizes: tuple[int, ...]
    """The number of crops in each stratum."""
    expected: tuple[float, ...]
    """The share of wrong labels in each stratum that the calibrated confidences let expect, 0 to 1."""
    max_error: float
    """The highest share of wrong labels to accept, 0 to 1."""
    confidence: float = CONFIDENCE
    """The probability that all bounds hold, over all looks."""

    def __post_init__(self) -> None:
        if not self.sizes or len(self.sizes) != len(self.expected) or min(self.sizes) < 1:
            raise ValueError(f"each stratum needs a crop and an expected error, got {self.sizes}")
        if not 0 < self.max_error < 1 or not 0 < self.confidence < 1:
            raise ValueError(
                f"max_error and confidence lie between 0 and 1, got {self.max_error}, {self.confidence}"
            )

    def wrong_at_most(
        self, tally: Tally, limit: int | None = None, confidence: float | None = None
    ) -> NDArray[np.int64]:
        """Return an upper bound on the wrong labels that nobody has looked at, for each set.

        Args:
            tally: The looks so far.
            limit: A bound above this number may be too low, though still above it; that saves time in large pools.
            confidence: How probable it is that all of them hold; that of these strata if None.

        Returns:
            (m,) int: all of them hold at once, over all looks.
        """
        likeliest, losses, evidence = self._nulls(tally, limit)
        short = -np.log1p(-(self.confidence if confidence is None else confidence)) - evidence
        bounds = np.cumsum(likeliest)
        for k in range(len(self.sizes)):
            rising = np.cumsum(np.sort(losses[: k + 1], axis=None)[: losses.shape[1]])
            bounds[k] += int(np.searchsorted(rising, short, side="left"))
        return bounds

    def error_rates(self, tally: Tally) -> NDArray[np.float64]:
        """Return the share of wrong labels expected in each stratum after these looks, (m,)."""
        a, b = self._prior
        log_weight = self._log_scenarios(tally)
        weight = np.exp(log_weight - np.logaddexp.reduce(log_weight))
        rates = (a + tally.wrong) / (a + b + tally.looks)
        return np.asarray(weight[1:] @ rates)

    def _nulls(self, tally: Tally, limit: int | None) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
        """Return the likeliest unseen errors by stratum, the log-likelihood each further one costs, and the evidence.

        The evidence is the log of the martingale at the likeliest errors, and grows by the cost of each further one.

        The likelihood is log-concave in each stratum, so that the cheapest way to more errors is to add them one by one.
        """
        sizes, looks, wrong = np.asarray(self.sizes), tally.looks, tally.wrong
        unseen = sizes - looks
        share = wrong * (sizes + 1) // np.maximum(looks, 1)
        likeliest = np.clip(share - wrong, 0, unseen)
        most = int(unseen.sum()) if limit is None else min(limit + 1, int(unseen.sum()))
        more = likeliest[:, None] + np.arange(max(most, 1))
        n, s, size = looks[:, None], wrong[:, None], sizes[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            losses = -np.log((more + s + 1) / (more + 1)) - np.log((size - n - more) / (size - more - s))
        losses[more >= unseen[:, None]] = np.inf
        at_best = _log_likelihood(sizes, looks, wrong, likeliest + wrong).sum()
        evidence = float(np.logaddexp.reduce(self._log_scenarios(tally)) - at_best)
        return likeliest, losses, evidence

    @cached_property
    def _prior(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """The beta distributions of the error rate, (possibilities, m) each."""
        expected = np.clip(self.expected, 1e-4, 0.5)
        rates = np.vstack(
            [*(scale * expected for scale in _SCALES), np.full(len(expected), _EVEN * self.max_error)]
        )
        rates = np.clip(rates, 1e-5, 0.9)
        return rates * _PRIOR_LOOKS, (1 - rates) * _PRIOR_LOOKS

    def _log_scenarios(self, tally: Tally) -> NDArray[np.float64]:
        """Return the log of prior times likelihood of each possibility; the first is that all labels are right."""
        from scipy.special import betaln  # noqa: PLC0415 - takes long to load

        a, b = self._prior
        likelihoods = betaln(a + tally.wrong, b + tally.looks - tally.wrong) - betaln(a, b)
        right = np.log(_ALL_RIGHT) if not tally.wrong.any() else -np.inf
        weights = np.log([*_SCALES.values(), _EVEN_PROBABILITY])
        return np.concatenate([[right], weights + likelihoods.sum(axis=1)])


def _log_likelihood(
    sizes: NDArray[np.int64], looks: NDArray[np.int64], wrong: NDArray[np.int64], errors: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the log-probability of the answers, in their order, if a stratum holds so many errors."""
    from scipy.special import gammaln  # noqa: PLC0415 - takes long to load

    right = looks - wrong
    return np.asarray(
        gammaln(errors + 1)
        - gammaln(errors - wrong + 1)
        + gammaln(sizes - errors + 1)
        - gammaln(sizes - errors - right + 1)
        - gammaln(sizes + 1)
        + gammaln(sizes - looks + 1)
    )
