"""Several annotators of crops with several classes: whose sets are right, and which crops one more label tells most of.

    python -m tests.measure.set_consensus digit-traits digits-together solar-cells-kinds --limit 1500 --seeds 5

Three people label some of the crops each, two carefully and one carelessly: of what is there, they give each class wrongly with a
probability of their own, and the careless one now and then another crop's whole set. Their labels are weighed as a round does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from everylabel.model import label_set
from everylabel.model.label_quality import set_consensus
from everylabel.model.label_quality.consensus import Consensus, most_frequent
from everylabel.scripts.replay.names import DEFAULT_CACHE
from tests.measure.keystrokes import pool_of

WRONG_CLASS, OTHER_SET = (0.01, 0.03, 0.05), (0.0, 0.0, 0.25)
"""Of each person: how often each class of a crop is given wrongly, and how often the set is another crop's."""
LOWEST_WEIGHT = 0.8
"""The weight of the lowest score against all higher ones: `alpha` of Thyagarajan et al. (2211.13895)."""


def moving_average(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the exponential moving average of each row's scores from the highest to the lowest."""
    falling = -np.sort(-scores, axis=1)
    found: NDArray[Any] = falling[:, 0].copy()
    for column in falling.T[1:]:
        found = LOWEST_WEIGHT * column + (1 - LOWEST_WEIGHT) * found
    return found


POOLINGS = {
    "mean": set_consensus.pool_scores,
    "moving average": moving_average,
    "lowest": lambda scores: scores.min(axis=1),
}


def people(truth: list[str], shared: float, rng: np.random.Generator) -> list[list[str | None]]:
    """Return the label sets of each person: every crop has a label of one, and a share of them of another one, too."""
    names = sorted({name for label in truth for name in label_set.split(label)})
    held = np.array([[name in label_set.split(label) for name in names] for label in truth])
    first = rng.integers(len(WRONG_CLASS), size=len(truth))
    second = (first + rng.integers(1, len(WRONG_CLASS), size=len(truth))) % len(WRONG_CLASS)
    second[rng.random(len(truth)) >= shared] = -1
    votes: list[list[str | None]] = []
    for who, (wrong, other) in enumerate(zip(WRONG_CLASS, OTHER_SET, strict=True)):
        given = held ^ (rng.random(held.shape) < wrong)
        given[~given.any(axis=1)] = held[~given.any(axis=1)]  # nothing ticked says nothing
        swapped = rng.random(len(truth)) < other
        given[swapped] = held[rng.integers(len(truth), size=int(swapped.sum()))]
        seen = (first == who) | (second == who)
        votes.append(
            [
                label_set.join(np.asarray(names)[row]) if here else None
                for row, here in zip(given, seen, strict=True)
            ]
        )
    return votes


def ranked(x: NDArray[Any], votes: list[list[str | None]], pooling: str) -> Consensus:
    """Weigh the votes, with the scores of the classes pooled one way."""
    kept, set_consensus.pool_scores = set_consensus.pool_scores, POOLINGS[pooling]
    try:
        return set_consensus.find_set_consensus(votes, ["a", "b", "c"], x)
    finally:
        set_consensus.pool_scores = kept


def measure(
    data: Annotated[list[str], typer.Argument(help="Data sets of several classes a crop.")],
    labels: Annotated[int, typer.Option(help="Crops that are labelled.")] = 200,
    shared: Annotated[float, typer.Option(help="Share of them that two people label.")] = 0.3,
    seeds: Annotated[int, typer.Option(help="Runs of each data set.")] = 5,
    limit: Annotated[int | None, typer.Option(help="Crops sampled of each data set.")] = None,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Print how often the sets that are decided on are right, and how many of the crops ranked first are wrong."""
    typer.echo(
        "| data | sets right where people disagree: weighed, by counting | wrong among the first 20: "
        + ", ".join(POOLINGS)
        + ", at random | an annotator's quality is off by |"
    )
    typer.echo("|---|---|---|---|")
    for source in data:
        pool = pool_of(source, cache, limit)
        rows = np.load(pool.embeddings, mmap_mode="r", allow_pickle=False)
        right, counted, off = [], [], []
        wrong: dict[str, list[float]] = {name: [] for name in (*POOLINGS, "at random")}
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            chosen = np.sort(rng.permutation(len(pool.labels))[:labels])
            truth = [pool.labels[row] for row in chosen]
            votes = people(truth, shared, rng)
            x = np.asarray(rows[chosen], dtype=np.float32)
            for name in POOLINGS:
                found = ranked(x, votes, name)
                told = {crop.index: crop.label for crop in found.crops}
                wrong[name].append(float(np.mean([told[i] != truth[i] for i in found.second_labels[:20]])))
            wrong["at random"].append(float(np.mean([told[i] != truth[i] for i in told])))
            for crop, label in told.items():
                given = [vote for row in votes if (vote := row[crop]) is not None]
                if len(set(given)) > 1:
                    right.append(label == truth[crop])
                    counted.append(most_frequent(given) == truth[crop])
            for who, row in zip("abc", votes, strict=True):
                own = [vote == true for vote, true in zip(row, truth, strict=True) if vote is not None]
                off.append(found.quality[who] - np.mean(own))
        firsts = ", ".join(f"{100 * np.mean(share):.0f} %" for share in wrong.values())
        typer.echo(
            f"| {pool.data} | {100 * np.mean(right):.0f} %, {100 * np.mean(counted):.0f} % of {len(right)} | {firsts} "
            f"| {100 * np.mean(off):+.0f} points on average, {100 * np.max(np.abs(off)):.0f} at worst |"
        )


if __name__ == "__main__":
    typer.run(measure)
