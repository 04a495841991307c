"""Turn scores into probabilities whose stated confidence holds, cautiously with few labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

SCALES = np.geomspace(1.0, 100.0, 33)


def posterior_scales(loo: NDArray[Any], codes: NDArray[Any], n_classes: int) -> NDArray[Any]:
    """Return three scales that stand for those the leave-one-out scores leave open; the middle one weighs 2/3.

    The prior on the log of the scale has width 0.4. Its centre grows with the labels and with the number of
    classes, whose scores lie closer: on seven sets it kept what was stated at 0.9 right nine times in ten
    from 10 labels on. Platt (1999) smooths targets for the same reason.

    Args:
        loo: (n, k) leave-one-out scores.
        codes: (n,) class codes of the rows.
        n_classes: k.

    Returns:
        (3,) float64, ascending.
    """
    n, usable = len(codes), can_be_left_out(codes)
    usual = max(1.0, 5.0 * np.sqrt(np.log2(n_classes)) * n / (n + 30))
    log_posterior = -0.5 * ((np.log(SCALES) - np.log(usual)) / 0.4) ** 2
    if usable.any():
        smooth = 1.0 / (n + 1)
        target = (1 - smooth) * np.eye(n_classes)[codes[usable]] + smooth / n_classes
        log_p = log_softmax(loo[usable] * SCALES[:, None, None], axis=2)
        log_posterior = log_posterior + (target * log_p).sum(axis=(1, 2))
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    mean = float(posterior @ np.log(SCALES))
    spread_ = math.sqrt(3 * max(0.0, float(posterior @ (np.log(SCALES) - mean) ** 2)))
    # Gauss-Hermite: exact for the first five moments of a normal posterior.
    return np.asarray(np.exp([mean - spread_, mean, mean + spread_]))


def averaged_softmax(scores: NDArray[Any], scales: NDArray[Any]) -> NDArray[Any]:
    """Return the softmax of (n, k) scores averaged over three scales, or under one: (n, k) probabilities."""
    # Classes by rows: numpy then works along the crops, of which there are many, and not along a few classes.
    below = np.subtract(scores.T, scores.max(axis=1), order="C")
    shares = (1.0,) if len(scales) == 1 else (1 / 6, 4 / 6, 1 / 6)
    found, exponent = np.zeros_like(below), np.empty_like(below)
    for scale, share in zip(scales, shares, strict=True):
        np.multiply(below, scale, out=exponent)
        np.exp(exponent, out=exponent)
        exponent *= share / exponent.sum(axis=0)
        found += exponent
    return np.asarray(found.T)


def can_be_left_out(codes: NDArray[Any]) -> NDArray[Any]:
    """Tell which rows can be left out of a fit without their class going with them: (n,) bool.

    A class with one row is missing from the fit without it, which says nothing of calibration.
    """
    return np.asarray(np.bincount(codes)[codes] > 1)
