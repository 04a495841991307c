"""Measure what a round costs by the size of the pool, beside memory bandwidth and the classic hybrid."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from everylabel.backend.progress import Progress
from everylabel.model.session import ActiveLearningSession
from everylabel.scripts.benchmarks.machine import Watch
from everylabel.scripts.benchmarks.made_embeddings import CLASSES, LABELS, Embeddings, Shape, make_embeddings
from everylabel.scripts.benchmarks.measure_choosing import SHORTLISTS, Choosing, classic_hybrid
from everylabel.scripts.benchmarks.own_process import alone, peak_bytes

BATCHES: Final = (5, 50, 500)
COMPARED: Final = 200
"""Crops asked for at once where the classic hybrid is run."""
REPEATS: Final = 5


@dataclass(frozen=True)
class RoundCost:
    """The cost of a round: the fastest of several, each in a new session."""

    crops: int
    batch: int
    seconds: float
    """From the memory map to the round, the session's making included."""
    processor_seconds: float
    """What all threads worked: on two busy cores they also wait."""
    phases: dict[str, float]
    peak_bytes: int
    """The most memory the process ever held, the program itself included."""
    program_bytes: int
    """What it held before the session was made."""
    file_bytes: int


@dataclass(frozen=True)
class ScoringCost:
    """The cost of scoring a whole pool, beside that of copying its bytes: the fastest of several."""

    crops: int
    file_bytes: int
    seconds: float
    processor_seconds: float
    copy_seconds: float
    """A plain copy of the file in memory: `numpy.array(memory_map)`."""
    copy_again_seconds: float
    """The same into memory that is there already: nothing but moving bytes."""


def measure_rounds(sizes: Sequence[int], shapes: Sequence[Shape], report: Progress) -> dict[str, Any]:
    """Measure rounds, scoring and the classic hybrid, each part in a process of its own.

    The first shape is measured at every size, the others at the largest.
    """
    watch = Watch()
    pools = []
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="everylabel-benchmark-") as folder:
            embeddings = make_embeddings(Path(folder) / "pool.rows", max(sizes), shape, report)
            pools.append(_pool(embeddings, sizes if shape is shapes[0] else [max(sizes)], report))
    return {
        "unit": "seconds of wall time, processor_seconds of all cores together: a round is the fastest of five, "
        "scoring and copying of ten, the classic hybrid of up to three",
        "labels": LABELS,
        "classes": CLASSES,
        "compared": COMPARED,
        "pools": pools,
        "machine": asdict(watch.machine()),
    }


def _pool(embeddings: Embeddings, sizes: Sequence[int], report: Progress) -> dict[str, Any]:
    shape, large = embeddings.shape, max(sizes)
    wanted = [(n, batch) for n in sizes for batch in sorted({*BATCHES, COMPARED})]
    rounds, what = [], f"Running rounds on {shape.dim}"
    for done, (n, batch) in enumerate(wanted):
        report(what, done, len(wanted))
        rounds.append(RoundCost(**alone(round_cost, embeddings, n, batch)))
    report(what, len(wanted), len(wanted))
    scoring: list[ScoringCost] = []
    classic: list[Choosing] = []
    total = len(sizes) + len(SHORTLISTS)
    what = f"Scoring, copying and the classic hybrid on {shape.dim}"
    for n in sizes:
        report(what, len(scoring), total)
        scoring.append(ScoringCost(**alone(scoring_cost, embeddings, n)))
    for shortlist in SHORTLISTS:
        report(what, len(scoring) + len(classic), total)
        classic.append(Choosing(**alone(classic_hybrid, embeddings, large, COMPARED, shortlist)))
    report(what, total, total)
    return {
        **asdict(shape),
        "rounds": [asdict(cost) for cost in rounds],
        "scoring": [asdict(cost) for cost in scoring],
        "classic": [asdict(choice) for choice in classic],
        "ratios": ratios(rounds, scoring, classic),
    }


def round_cost(embeddings: Embeddings, n: int, batch: int) -> dict[str, Any]:
    """Measure a whole round."""
    classifier = embeddings.shape.make_classifier()
    program = peak_bytes()
    names = [str(code) for code in embeddings.classes]
    seconds, worked, phases = np.inf, np.inf, dict[str, float]()
    for _ in range(REPEATS):
        pool = embeddings.read(n)
        began, began_working = time.perf_counter(), time.process_time()
        session = ActiveLearningSession(pool, classifier=classifier, batch_size=batch)
        session.add_labels(range(LABELS), names)
        outcome = session.run_round()
        took = time.perf_counter() - began
        worked = min(worked, time.process_time() - began_working)
        if took < seconds:
            seconds, phases = took, outcome.seconds
    return asdict(RoundCost(n, batch, seconds, worked, phases, peak_bytes(), program, pool.nbytes))


def scoring_cost(embeddings: Embeddings, n: int) -> dict[str, Any]:
    """Measure the part of a round that reads every crop, and how fast memory alone would be."""
    pool = embeddings.read(n)
    head = embeddings.shape.make_classifier().adapt(pool)
    head.fit(pool[:LABELS], [str(code) for code in embeddings.classes])
    into = np.zeros_like(pool)
    scoring = _fastest(lambda: head.predict_proba(embeddings.read(n)))
    copy, _ = _fastest(lambda: np.array(embeddings.read(n)))
    copy_again, _ = _fastest(lambda: np.copyto(into, pool))
    return asdict(ScoringCost(n, pool.nbytes, *scoring, copy, copy_again))


def ratios(
    rounds: Sequence[RoundCost], scoring: Sequence[ScoringCost], classic: Sequence[Choosing]
) -> dict[str, float]:
    """Return the ratios that the bounds apply to: all at the largest pool, and growth from the smallest."""
    small, large = min(cost.crops for cost in rounds), max(cost.crops for cost in rounds)
    at = {(cost.crops, cost.batch): cost for cost in rounds}
    whole = next(cost for cost in scoring if cost.crops == large)
    found = {
        "peak memory / file": max(cost.peak_bytes / cost.file_bytes for cost in rounds if cost.crops == large)
    }
    if small < large:
        found[f"round of 50 at {large:,} / at {small:,}"] = at[large, 50].seconds / at[small, 50].seconds
        found[f"crops {large:,} / {small:,}"] = large / small
    found["scoring / copy"] = whole.seconds / whole.copy_seconds
    found["scoring / copy into memory at hand"] = whole.seconds / whole.copy_again_seconds
    ours = at[large, COMPARED]
    mine = ours.phases["train"] + ours.phases["score"] + ours.phases["select"]
    for choice in classic:
        theirs = (choice.score_seconds or 0.0) + (choice.select_seconds or 0.0)
        found[f"{choice.name} / everylabel, choosing {COMPARED}"] = (
            choice.select_seconds or 0.0
        ) / ours.phases["select"]
        found[f"{choice.name} / everylabel, training, scoring and choosing {COMPARED}"] = theirs / mine
        found[f"{choice.name} / whole round of everylabel, {COMPARED}"] = theirs / ours.seconds
    return found


def _fastest(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the least wall-clock and the least processor seconds of ten calls."""
    seconds, worked = [], []
    for _ in range(2 * REPEATS):
        began, began_working = time.perf_counter(), time.process_time()
        work()
        seconds.append(time.perf_counter() - began)
        worked.append(time.process_time() - began_working)
    return min(seconds), min(worked)
