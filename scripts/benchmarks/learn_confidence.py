"""Learn from replays how often a prediction is right: the numbers in `everylabel.model.classifiers.confidence`.

    python -m everylabel.scripts.benchmarks.learn_confidence --seeds 8

labels 33 pools as the live backend does, keeps of every round what the softmax stated and what was right, and fits one
logistic regression to all of it, every pool with the same weight. Printed are the numbers, and how far the stated
accuracy is off on pools of one origin when the others alone were learned from: its error, the half-width of its
interval and how often that holds the truth, before any blind check crop narrows it. The pools are digits, solar cells,
Fashion-MNIST and animals: whole, in pairs, in unions of classes, with one class made rare, blurred and with noise.
"""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from everylabel.model import encoders
from everylabel.model.classifiers.confidence import LEAST_SHARE, MOST_CONFIDENT
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.evaluation.accuracy import (
    AccuracyEstimate,
    calibration_error,
    estimate_pool_accuracy,
)
from everylabel.model.session import ActiveLearningSession
from everylabel.model.threads import single_threaded
from everylabel.scripts.console import console, progress
from everylabel.scripts.replay.embedding_cache import embed
from everylabel.scripts.replay.labelled_data import LabelledCrops, load, thin
from everylabel.scripts.replay.names import DEFAULT_CACHE
from everylabel.scripts.replay.replay import Task, label_rounds

TERMS = ("1", "odds", "more", "overlap", "odds * overlap", "lead", "lead * more")
AT = (10, 15, 20, 25, 30, 40, 50, 60, 75, 90, 100)
SHOWN = (25, 50, 100)
STOP_AT = 0.9
CROPS = 1000
SAMPLED = 150
"""Crops of a round that are learned from."""
UNIONS = {
    "digits": {str(digit): "odd" if digit % 2 else "even" for digit in range(10)},
    "fashion": dict.fromkeys(("t-shirt", "pullover", "coat", "shirt", "dress"), "top"),
    "animals": dict.fromkeys(("cow", "elephant", "giraffe", "horse", "sheep", "zebra"), "herbivore"),
}


@dataclass(frozen=True)
class Recipe:
    """How a pool is made of a data set: which classes, whether united, thinned, and how its pictures are spoilt."""

    source: str
    thinned: str = ""
    united: bool = False
    blur: int = 0
    """Pixels a side that pictures are shrunk to before they are enlarged again."""
    noise: int = 0
    """Standard deviation of the noise added, in grey levels."""
    crops: int = CROPS

    @property
    def origin(self) -> str:
        """The data set the pictures are from."""
        return self.source.partition(":")[0]


RECIPES = (
    *(Recipe("digits" + classes) for classes in ("", ":3,8", ":4,9,1,2")),
    Recipe("digits", united=True),
    Recipe("digits:8,9", thinned="9=6"),
    *(Recipe("digits" + classes, noise=120) for classes in ("", ":3,8")),
    Recipe("digits", united=True, noise=120),
    Recipe("solar-cells"),
    Recipe("solar-cells", thinned="defective=6", crops=1500),
    Recipe("solar-cells", crops=400),
    *(
        Recipe("fashion" + classes)
        for classes in (
            "",
            ":shirt,coat",
            ":pullover,coat",
            ":t-shirt,shirt",
            ":sandal,sneaker,ankle-boot",
            ":shirt,coat,pullover,dress",
        )
    ),
    Recipe("fashion", united=True),
    Recipe("fashion:shirt,coat", thinned="coat=6"),
    *(Recipe("fashion" + classes, noise=60) for classes in ("", ":t-shirt,dress")),
    *(Recipe("fashion" + classes, blur=7) for classes in ("", ":shirt,pullover")),
    *(Recipe("animals" + classes) for classes in ("", ":cat,dog", ":cow,horse", ":sheep,cow,dog,bear")),
    Recipe("animals", united=True),
    Recipe("animals:cat,dog", thinned="dog=6"),
    *(Recipe("animals" + classes, noise=80) for classes in ("", ":sheep,cow")),
    *(Recipe("animals" + classes, blur=10) for classes in ("", ":cat,dog")),
)


@dataclass(frozen=True)
class ReplayedRound:
    """A round of a replay: what was stated of the crops without a label, and what was right."""

    recipe: Recipe
    seed: int
    n_labels: int
    n_classes: int
    terms: NDArray[Any]
    """(n, 7), in the order of TERMS."""
    right: NDArray[Any]
    """(n,) bool."""


def terms(probabilities: NDArray[Any], n_labels: int, n_contradicted: int, scale: float) -> NDArray[Any]:
    """Return what is learned from, (n, 7), in the order of TERMS."""
    two = np.sort(np.maximum(probabilities, LEAST_SHARE), axis=1)[:, -2:]
    odds = logit(np.minimum(two[:, 1], MOST_CONFIDENT))
    lead = np.log(two[:, 1] / two[:, 0]) / scale
    more = np.full(len(odds), np.log(n_labels / 50))
    overlap = np.full(len(odds), np.log(50 * (n_contradicted + 0.7) / (n_labels + 1)))
    return np.stack([np.ones(len(odds)), odds, more, overlap, odds * overlap, lead, lead * more], axis=1)


def fit(rounds: Sequence[ReplayedRound]) -> NDArray[Any]:
    """Fit the seven numbers; every pool weighs the same."""
    counts = Counter(found.recipe for found in rounds)
    rng = np.random.default_rng(0)
    rows, right, weights = [], [], []
    for found in rounds:
        some = rng.permutation(len(found.right))[:SAMPLED]
        rows.append(found.terms[some])
        right.append(found.right[some])
        weights.append(np.full(len(some), 1 / counts[found.recipe]))
    x, y, weight = np.concatenate(rows), np.concatenate(right), np.concatenate(weights)
    spread = x.std(axis=0)
    spread[0] = 1.0
    head = LogisticRegression(C=1000 / weight.sum(), fit_intercept=False, max_iter=1000)
    head.fit(x / spread, y, sample_weight=weight)
    return np.asarray(head.coef_[0] / spread)


def replay(
    recipe: Recipe, embeddings: Path, rows: Sequence[int], labels: Sequence[str], seed: int
) -> list[ReplayedRound]:
    """Label one pool, and return its rounds at the numbers of labels in AT."""
    truth = np.asarray(labels)
    pool = np.load(embeddings, mmap_mode="r", allow_pickle=False)[list(rows)]
    classifier = encoders.create(encoders.DEFAULT, device="cpu", threads=1).make_classifier()
    assert isinstance(classifier, EmbeddingClassifier)  # noqa: S101 - the default encoder's
    classifier.restated = False
    task = Task(labels=tuple(labels), seed=seed, pseudo_labels=True, pre_annotated_share=0.1)
    kept = []
    for session, found in label_rounds(task, pool, classifier):
        if found.n_labels in AT and found.probabilities is not None:
            kept.append(_kept(recipe, seed, session, found.probabilities, truth))
    return kept


def _kept(
    recipe: Recipe,
    seed: int,
    session: ActiveLearningSession,
    probabilities: NDArray[Any],
    truth: NDArray[Any],
) -> ReplayedRound:
    head = session.classifier
    assert isinstance(head, EmbeddingClassifier)  # noqa: S101 - as made in `replay`
    free = np.setdiff1d(np.arange(len(truth)), np.fromiter(session.labels, dtype=np.intp))
    stated = probabilities[free]
    right = np.asarray(head.classes_)[stated.argmax(axis=1)] == truth[free]
    return ReplayedRound(
        recipe, seed, len(session.labels), stated.shape[1], terms(stated, *head.evidence), right
    )


def spoilt(crops: LabelledCrops, recipe: Recipe) -> LabelledCrops:
    """Return the crops blurred or with noise, as the recipe says."""
    if not (recipe.blur or recipe.noise):
        return crops
    return LabelledCrops(
        f"{crops.name}, blur {recipe.blur}, noise {recipe.noise}",
        crops.labels,
        partial(_spoil, crops.open_image, recipe.blur, recipe.noise),
        partial(_spoilt_digest, crops.digest, recipe.blur, recipe.noise),
    )


def _spoil(open_image: Callable[[int], Image.Image], blur: int, noise: int, row: int) -> Image.Image:
    image = open_image(row).convert("RGB")
    if blur:
        small = image.resize((blur, blur), Image.Resampling.BILINEAR)
        image = small.resize(image.size, Image.Resampling.BILINEAR)
    if noise:
        pixels = np.asarray(image, dtype=np.float64)
        pixels = pixels + np.random.default_rng(row).normal(0, noise, (*pixels.shape[:2], 1))
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image


def _spoilt_digest(digest: Callable[[int], str], blur: int, noise: int, row: int) -> str:
    return f"{digest(row)}-{blur}-{noise}"


def prepared(recipe: Recipe, cache: Path, report: Any) -> tuple[Path, list[int], list[str]]:
    """Return where a pool's embeddings are, which rows of them it has, and the label of each."""
    crops = load(recipe.source, cache)
    if recipe.thinned:
        crops, _ = thin(crops, recipe.thinned)
    some = np.sort(np.random.default_rng(0).permutation(len(crops))[: recipe.crops])
    crops = spoilt(crops.take(some, crops.name), recipe)
    path = embed(crops, encoders.create(encoders.DEFAULT), cache, partial(report, f"Encoding {crops.name}"))
    union = UNIONS.get(recipe.origin, {}) if recipe.united else {}
    labels = [union.get(label, "other" if recipe.united else label) for label in crops.labels]
    return path, list(range(len(crops))), labels


@dataclass(frozen=True)
class Stated:
    """The statement of numbers learned from other pools about a round, beside the truth."""

    n_labels: int
    estimate: AccuracyEstimate
    truth: float
    ece: float

    @property
    def holds(self) -> bool:
        """True if the interval holds the truth."""
        return self.estimate.low <= self.truth <= self.estimate.high


def stated_elsewhere(rounds: Sequence[ReplayedRound]) -> Iterator[list[Stated]]:
    """Yield what is stated in each run, round by round, by numbers learned from the pools of other origins."""
    for origin in dict.fromkeys(one.recipe.origin for one in rounds):
        numbers = fit([one for one in rounds if one.recipe.origin != origin])
        runs: dict[tuple[Recipe, int], list[Stated]] = {}
        for one in rounds:
            if one.recipe.origin == origin:
                found = _stated(one, expit(one.terms @ numbers))
                runs.setdefault((one.recipe, one.seed), []).append(found)
        yield from runs.values()


def _stated(found: ReplayedRound, confidence: NDArray[Any]) -> Stated:
    others = found.n_classes - 1
    confidence = np.maximum(
        confidence, 1.0001 / found.n_classes
    )  # the best class is no less probable than the rest
    rest = np.repeat((1 - confidence)[:, None] / others, others, axis=1)
    estimate = estimate_pool_accuracy(
        np.column_stack([confidence, rest]), [str(column) for column in range(others + 1)], found.n_labels
    )
    assert estimate is not None  # noqa: S101 - AT begins with ten labels
    return Stated(
        found.n_labels, estimate, float(found.right.mean()), calibration_error(confidence, found.right)
    )


def summary(runs: Sequence[Sequence[Stated]]) -> Iterator[str]:
    """Yield a line for each number of labels in SHOWN, and one for people who stop at the first estimate of 90 %."""
    for n_labels in SHOWN:
        at = [one for run in runs for one in run if one.n_labels == n_labels]
        off = [one.estimate.estimate - one.truth for one in at]
        wide = [(one.estimate.high - one.estimate.low) / 2 for one in at]
        yield (
            f"{n_labels:3} labels: error {100 * np.sqrt(np.square(off).mean()):.1f} points, half-width "
            f"{100 * np.mean(wide):.1f}, truth inside {np.mean([one.holds for one in at]):.0%}, "
            f"ECE {np.mean([one.ece for one in at]):.3f}"
        )
    firsts = [next((one for one in run if one.estimate.estimate >= STOP_AT), None) for run in runs]
    stopped = [one for one in firsts if one is not None]
    if stopped:
        inside = np.mean([one.holds for one in stopped])
        yield f"stopped at the first {STOP_AT:.0%}: {len(stopped)} of {len(runs)} runs, truth inside {inside:.0%}"


def main(
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each pool.")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
) -> None:
    """Learn how often predictions are right, and say how far off that is on pools of another origin."""
    rounds: list[ReplayedRound] = []
    context = multiprocessing.get_context("spawn")
    with progress() as report, ProcessPoolExecutor(jobs, mp_context=context) as workers:
        pools = [(recipe, *prepared(recipe, cache, report)) for recipe in RECIPES]
        waiting = [workers.submit(replay, *pool, seed) for pool in pools for seed in range(seeds)]
        for number, future in enumerate(waiting):
            report("Replaying", number, len(waiting))
            rounds += future.result()
    with single_threaded():
        for name, number in zip(TERMS, fit(rounds), strict=True):
            console.print(f"{name:16}{number:+.4f}")
        for line in summary([*stated_elsewhere(rounds)]):
            console.print(line)


if __name__ == "__main__":
    typer.run(main)
