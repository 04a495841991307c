"""Replay spot checks: freeze the machine labels of a pool whose true labels are known, and certify them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.evaluation.certificate import Tally
from everylabel.model.evaluation.spot_check import plan_next_look, stratify
from everylabel.scripts.replay.replay import Task, label_pool

if TYPE_CHECKING:
    from everylabel.model.classifiers.base import Classifier


@dataclass(frozen=True)
class FrozenLabels:
    """The machine labels of all crops that nobody has labelled and that are not in the check set."""

    confidences: NDArray[Any]
    """(n,) calibrated confidences, 0 to 1."""
    right: NDArray[np.bool_]
    """(n,) whether each label is the true one."""
    pool_size: int
    """All crops, those with a label of a person included."""
    labels: int
    """How many labels people gave before."""


@dataclass(frozen=True)
class SpotCheck:
    """How one spot check ended; shares are of the whole pool."""

    looks: int
    certified: float
    """The share of crops in the certified set, those looked at included; 0 if none was certified."""
    accepted: float
    """The share of crops accepted without a look."""
    set_error: float
    """The share of wrong machine labels in the certified set, which the certificate bounds."""
    accepted_error: float
    """The share of wrong labels among the accepted crops."""


def freeze(task: Task, rows: NDArray[Any], make_classifier: Callable[[], Classifier]) -> FrozenLabels:
    """Label a pool up to the budget, as the live backend does, and freeze what the model says of the rest."""
    session = label_pool(task, rows, make_classifier())
    found = session.run_round(audit=False)
    if found.probabilities is None:
        raise ValueError(
            f"{task.budget} labels of {task.data} are of one class: there is no model to certify"
        )
    truth = np.asarray(task.labels)
    free = np.setdiff1d(np.arange(len(truth)), [*session.labels, *session.check_crops])
    probabilities = found.probabilities[free]
    predicted = np.asarray(found.classes)[probabilities.argmax(axis=1)]
    return FrozenLabels(
        probabilities.max(axis=1).astype(np.float64),
        predicted == truth[free],
        len(truth),
        len(session.labels),
    )


def spot_check(frozen: FrozenLabels, max_error: float, seed: int) -> SpotCheck:
    """Look at crops until a set is certified, or none is worth it."""
    strata, crops = stratify(frozen.confidences, max_error)
    rng = np.random.default_rng(seed)
    order = [rng.permutation(part) for part in crops]
    tally = Tally.empty(len(crops))
    while (plan := plan_next_look(strata, tally)).stratum is not None:
        crop = order[plan.stratum][tally.looks[plan.stratum]]
        tally = tally.plus(plan.stratum, wrong=not frozen.right[crop])
    looks = int(tally.looks.sum())
    if not plan.certified:
        return SpotCheck(looks, 0.0, 0.0, 0.0, 0.0)
    inside = order[: plan.target + 1]
    certified = np.concatenate(inside)
    accepted = np.concatenate([part[n:] for part, n in zip(inside, tally.looks.tolist(), strict=False)])
    return SpotCheck(
        looks,
        len(certified) / frozen.pool_size,
        len(accepted) / frozen.pool_size,
        float(1 - frozen.right[certified].mean()),
        float(1 - frozen.right[accepted].mean()) if len(accepted) else 0.0,
    )
