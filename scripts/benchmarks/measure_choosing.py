"""Measure what choosing a batch costs with other methods: the classic hybrid and scikit-activeml's strategies."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from everylabel.backend.progress import Progress
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.query import Query, create
from everylabel.scripts.benchmarks.machine import Watch
from everylabel.scripts.benchmarks.made_embeddings import LABELS, Embeddings, Shape, make_embeddings
from everylabel.scripts.benchmarks.own_process import alone
from everylabel.scripts.replay.peers import PEERS, PeerStrategy

SHORTLISTS: Final = (3, 10)
"""How many times the batch the classic hybrid clusters, beta after Zhdanov (1901.05954): as our own `hybrid` does, and
ten."""
POOLS: Final = (1_000, 10_000, 100_000, 1_000_000)
BATCH: Final = 50
SECONDS: Final = 60.0
BYTES: Final = 10 << 30
REPEATS: Final = 3
ENOUGH_SECONDS: Final = 5.0
"""What has taken so long is not repeated again."""


@dataclass(frozen=True)
class Choosing:
    """The cost of choosing one batch with one method: training and scoring the pool, and the choice itself."""

    name: str
    crops: int
    batch: int
    score_seconds: float | None
    """None where it was given the probabilities."""
    select_seconds: float | None
    """None where it did not end."""
    note: str = ""
    """Why it did not."""


def hybrid_name(shortlist: int) -> str:
    """Return the classic hybrid's name in the tables."""
    return f"classic hybrid, {shortlist} x batch"


def measure_choosing(most: int, shape: Shape, report: Progress) -> dict[str, Any]:
    """Choose from pools of up to `most` crops with every method, each in a process of its own.

    A method gets a minute and 10 GiB for each pool, and no larger pool once it has exceeded them.
    """
    watch = Watch()
    names = ("auto", *map(hybrid_name, SHORTLISTS), *PEERS)
    pools = [n for n in POOLS if n < most] + [most]
    found: list[Choosing] = []
    with tempfile.TemporaryDirectory(prefix="everylabel-benchmark-") as folder:
        embeddings = make_embeddings(Path(folder) / "pool.rows", most, shape, report)
        for done, name in enumerate(names):
            report("Choosing by other means", done, len(names))
            found += choices(embeddings, name, pools, SECONDS)
        report("Choosing by other means", len(names), len(names))
    return {
        "unit": "seconds to choose, with the head's probabilities at hand",
        **asdict(shape),
        "batch": BATCH,
        "seconds_given": SECONDS,
        "bytes_given": BYTES,
        "choosing": [asdict(choice) for choice in found],
        "ratios": ratios(found),
        "machine": asdict(watch.machine()),
    }


def ratios(found: Sequence[Choosing]) -> dict[str, float]:
    """Return how many times as long as everylabel each method takes, on the same pool."""
    ours = {choice.crops: choice.select_seconds for choice in found if choice.name == "auto"}
    return {
        f"{choice.name} / everylabel, {choice.batch} of {choice.crops:,}": choice.select_seconds / own
        for choice in found
        if choice.name != "auto" and choice.select_seconds and (own := ours.get(choice.crops))
    }


def choices(embeddings: Embeddings, name: str, pools: Sequence[int], seconds: float) -> list[Choosing]:
    """Choose with one method from ever larger pools, until one is too large for it."""
    found: list[Choosing] = []
    for n in pools:
        found.append(_choice(embeddings, name, n, seconds))
        if found[-1].select_seconds is None:
            break
    return found


def _choice(embeddings: Embeddings, name: str, n: int, seconds: float) -> Choosing:
    try:
        return Choosing(**alone(choose, embeddings, name, n, seconds=seconds))
    except ChildProcessError as error:
        return Choosing(name, n, BATCH, None, None, str(error))


def choose(embeddings: Embeddings, name: str, n: int) -> dict[str, Any]:
    """Choose from `n` crops within the given memory, with the classifier's probabilities at hand."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    for shortlist in SHORTLISTS:
        if name == hybrid_name(shortlist):
            return {**classic_hybrid(embeddings, n, BATCH, shortlist), "score_seconds": None}
    query = _query(embeddings, n)
    strategy = create(name) if name == "auto" else PeerStrategy(name)
    few = np.arange(LABELS + 100)
    strategy.select(
        replace(
            query,
            features=np.asarray(query.features[few]),
            candidates=few[LABELS:],
            probabilities=None if query.probabilities is None else query.probabilities[few],
        ),
        5,
    )
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < ENOUGH_SECONDS:
        began = time.perf_counter()
        strategy.select(query, BATCH)
        seconds.append(time.perf_counter() - began)
    return asdict(Choosing(name, n, BATCH, None, min(seconds)))


def classic_hybrid(embeddings: Embeddings, n: int, batch: int, shortlist: int) -> dict[str, Any]:
    """Choose by uncertainty, then k-means, as it is usually written with scikit-learn; the pool is in memory.

    The fastest of up to three runs counts. `shortlist` times the batch are clustered.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 - only the process that runs it loads it
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    pool = np.asarray(embeddings.read(n), dtype=np.float32)
    scoring: list[float] = []
    selecting: list[float] = []
    while len(selecting) < REPEATS and sum(selecting) < ENOUGH_SECONDS:
        began = time.perf_counter()
        model = LogisticRegression(max_iter=1000, class_weight="balanced")
        model.fit(pool[:LABELS], embeddings.classes)
        top = np.sort(model.predict_proba(pool[LABELS:]), axis=1)
        scored = time.perf_counter()
        uncertain = LABELS + np.argsort(top[:, -1] - top[:, -2])[: shortlist * batch]
        means = KMeans(n_clusters=batch, n_init=10, random_state=0).fit(pool[uncertain])
        chosen = {int(uncertain[row]) for row in means.transform(pool[uncertain]).argmin(axis=0)}
        selecting.append(time.perf_counter() - scored)
        scoring.append(scored - began)
    note = f"{len(chosen)} crops"
    return asdict(Choosing(hybrid_name(shortlist), n, batch, min(scoring), min(selecting), note))


def _query(embeddings: Embeddings, n: int) -> Query:
    pool = np.asarray(embeddings.read(n), dtype=np.float32)
    head: EmbeddingClassifier = embeddings.shape.make_classifier().adapt(pool)
    head.fit(pool[:LABELS], [str(code) for code in embeddings.classes])
    return Query(
        features=head.features(pool),
        candidates=np.arange(LABELS, n),
        labeled=np.arange(LABELS),
        labels=np.asarray(embeddings.classes),
        probabilities=head.predict_proba(pool),
        seed=0,
    )
