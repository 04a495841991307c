"""What a round costs by the size of the pool, beside the memory's own speed and what one would use instead."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from backend.services import Progress
from model.classifier import EmbeddingClassifier
from model.query import Query, create
from model.session import ActiveLearningSession
from scripts.peers import PEERS, PeerStrategy

CLASSES: Final = 10
LABELS: Final = 100
BATCHES: Final = (5, 50, 500)
COMPARED: Final = 200
"""Crops asked for at once where the classic hybrid is run."""
REPEATS: Final = 5
PEER_SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
PEER_SECONDS: Final = 60.0
PEER_BYTES: Final = 10 << 30


@dataclass(frozen=True)
class Embeddings:
    """A file of random embeddings in ten overlapping heaps, and the heap each belongs to."""

    path: Path
    dim: int
    classes: tuple[int, ...]
    """Of the first rows, which are the labelled ones."""

    def read(self, n: int) -> NDArray[Any]:
        """The first n rows as a memory map."""
        return np.memmap(self.path, dtype=np.float16, mode="r", shape=(n, self.dim))


@dataclass(frozen=True)
class RoundCost:
    """What a round costs: the fastest of some, each of a session of its own."""

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
    predict_seconds: float
    """Scoring the whole pool alone."""
    predict_processor_seconds: float
    copy_seconds: float
    """A plain copy of the file in memory: `numpy.array(memory_map)`."""
    copy_again_seconds: float
    """The same into memory that is there already: nothing but moving bytes."""


@dataclass(frozen=True)
class Choosing:
    """What choosing a batch costs by one way: training and scoring the pool, and the choice itself."""

    name: str
    crops: int
    batch: int
    score_seconds: float | None
    select_seconds: float | None
    note: str = ""


def measure_pool(sizes: Sequence[int], dim: int, *, peers: bool, report: Progress) -> dict[str, Any]:
    """Measure all of it in one run, each part in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="everylabel-benchmark-") as folder:
        embeddings = make_embeddings(
            Path(folder) / "pool.rows",
            max(sizes),
            dim,
            lambda done: report("Making embeddings", done, max(sizes)),
        )
        rounds = []
        wanted = [(n, batch) for n in sizes for batch in (*BATCHES, COMPARED)]
        for done, (n, batch) in enumerate(wanted):
            report("Running rounds", done, len(wanted))
            rounds.append(RoundCost(**alone(round_cost, embeddings, n, batch)))
        report("Running rounds", len(wanted), len(wanted))
        report("Running the classic hybrid", 0, 1)
        choices = [Choosing(**alone(classic_hybrid, embeddings, max(sizes), COMPARED))]
        report("Running the classic hybrid", 1, 1)
        if peers and find_spec("skactiveml") is not None:
            for done, name in enumerate(("auto", *PEERS)):
                report("Running scikit-activeml", done, len(PEERS) + 1)
                choices.append(peer_choice(embeddings, name, max(sizes)))
    return {
        "unit": "seconds of wall time, work in seconds of processor: a round is the fastest of five, scoring of ten",
        "dim": dim,
        "labels": LABELS,
        "classes": CLASSES,
        "rounds": [asdict(cost) for cost in rounds],
        "choosing": [asdict(choice) for choice in choices],
        "ratios": ratios(rounds, choices),
    }


def make_embeddings(path: Path, n: int, dim: int, report: Callable[[int], None]) -> Embeddings:
    """Write n rows: never negative, as after a rectifier, and off the centre."""
    random = np.random.default_rng(0)
    centres = 0.3 * random.standard_normal((CLASSES, dim), dtype=np.float32) + 0.5
    classes = random.integers(CLASSES, size=n)
    with path.open("wb") as file:
        for start in range(0, n, 20_000):
            part = classes[start : start + 20_000]
            rows = centres[part] + random.standard_normal((len(part), dim), dtype=np.float32)
            file.write(np.maximum(rows, 0).astype(np.float16).tobytes())
            report(min(start + 20_000, n))
    return Embeddings(path, dim, tuple(classes[:LABELS].tolist()))


def round_cost(embeddings: Embeddings, n: int, batch: int) -> dict[str, Any]:
    """A whole round, and the parts of it that the memory's speed says something of."""
    program = _peak_bytes()
    names = [str(code) for code in embeddings.classes]
    seconds, worked, phases = np.inf, np.inf, dict[str, float]()
    for _ in range(REPEATS):
        pool = embeddings.read(n)
        began, began_working = time.perf_counter(), time.process_time()
        session = ActiveLearningSession(pool, batch_size=batch)
        session.add_labels(range(LABELS), names)
        outcome = session.run_round()
        took = time.perf_counter() - began
        worked = min(worked, time.process_time() - began_working)
        if took < seconds:
            seconds, phases = took, outcome.seconds
    peak = _peak_bytes()
    into = np.zeros_like(pool)

    def score() -> None:
        session.classifier.predict_proba(embeddings.read(n))

    return asdict(
        RoundCost(
            crops=n,
            batch=batch,
            seconds=seconds,
            processor_seconds=worked,
            phases=phases,
            peak_bytes=peak,
            program_bytes=program,
            file_bytes=pool.nbytes,
            predict_seconds=_fastest(score),
            predict_processor_seconds=_fastest(score, time.process_time),
            copy_seconds=_fastest(lambda: np.array(embeddings.read(n))),
            copy_again_seconds=_fastest(lambda: np.copyto(into, pool)),
        )
    )


def classic_hybrid(embeddings: Embeddings, n: int, batch: int) -> dict[str, Any]:
    """Uncertainty first, then k-means, as it is usually written with scikit-learn; the pool is in memory."""
    from sklearn.cluster import KMeans  # noqa: PLC0415 - only the process that runs it loads it
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    pool = np.asarray(embeddings.read(n), dtype=np.float32)
    began = time.perf_counter()
    model = LogisticRegression(max_iter=1000, class_weight="balanced")
    model.fit(pool[:LABELS], embeddings.classes)
    top = np.sort(model.predict_proba(pool[LABELS:]), axis=1)
    scored = time.perf_counter()
    uncertain = LABELS + np.argsort(top[:, -1] - top[:, -2])[: 3 * batch]
    means = KMeans(n_clusters=batch, n_init=10, random_state=0).fit(pool[uncertain])
    distance = means.transform(pool[uncertain])
    chosen = {int(uncertain[row]) for row in distance.argmin(axis=0)}
    selected = time.perf_counter()
    note = f"{len(chosen)} crops"
    return asdict(Choosing("KMeans(n_init=10) hybrid", n, batch, scored - began, selected - scored, note))


def peer_choice(embeddings: Embeddings, name: str, most: int) -> Choosing:
    """The largest pool, up to `most`, a strategy chooses from within the time and the memory it is given."""
    found = Choosing(name, PEER_SIZES[0], BATCHES[1], None, None)
    for n in (size for size in PEER_SIZES if size <= most):
        measured = _peer_at(embeddings, name, n)
        if isinstance(measured, str):
            return replace(found, note=f"{n:,} crops: {measured}")
        found = measured
    return found


def _peer_at(embeddings: Embeddings, name: str, n: int) -> Choosing | str:
    try:
        return Choosing(**alone(peer_seconds, embeddings, name, n, seconds=PEER_SECONDS))
    except ChildProcessError as error:
        return str(error)


def peer_seconds(embeddings: Embeddings, name: str, n: int) -> dict[str, Any]:
    """Choosing from n crops, with the head at hand."""
    resource.setrlimit(resource.RLIMIT_AS, (PEER_BYTES, PEER_BYTES))
    pool = np.asarray(embeddings.read(n), dtype=np.float32)
    head = EmbeddingClassifier().adapt(pool)
    head.fit(pool[:LABELS], [str(code) for code in embeddings.classes])
    query = Query(
        features=head.features(pool),
        candidates=np.arange(LABELS, n),
        labeled=np.arange(LABELS),
        labels=np.asarray(embeddings.classes),
        probabilities=head.predict_proba(pool),
        seed=0,
    )
    strategy = create(name) if name == "auto" else PeerStrategy(name)
    began = time.perf_counter()
    strategy.select(query, BATCHES[1])
    return asdict(Choosing(name, n, BATCHES[1], None, time.perf_counter() - began))


def ratios(rounds: Sequence[RoundCost], choices: Sequence[Choosing]) -> dict[str, float]:
    """What is to be judged: everything of the largest pool, and growth from the smallest."""
    small, large = min(cost.crops for cost in rounds), max(cost.crops for cost in rounds)
    at = {(cost.crops, cost.batch): cost for cost in rounds}
    scoring = [cost for cost in rounds if cost.crops == large]
    ours, classic = at[large, COMPARED], choices[0]
    mine = ours.phases["train"] + ours.phases["score"] + ours.phases["select"]
    theirs = (classic.score_seconds or 0.0) + (classic.select_seconds or 0.0)
    return {
        "peak memory / file": max(cost.peak_bytes / cost.file_bytes for cost in scoring),
        f"round of 50 at {large:,} / at {small:,}": at[large, 50].seconds / at[small, 50].seconds,
        f"crops {large:,} / {small:,}": large / small,
        "scoring / copy": min(c.predict_seconds for c in scoring) / min(c.copy_seconds for c in scoring),
        "scoring / copy into memory at hand": min(c.predict_seconds for c in scoring)
        / min(c.copy_again_seconds for c in scoring),
        f"classic hybrid / everylabel, choosing {COMPARED}": (classic.select_seconds or 0.0)
        / ours.phases["select"],
        f"classic hybrid / everylabel, training, scoring and choosing {COMPARED}": theirs / mine,
        f"classic hybrid / whole round of everylabel, {COMPARED}": theirs / ours.seconds,
    }


def pool_tables(found: dict[str, Any]) -> list[Table]:
    """Results as a person reads them."""
    rounds = Table(title=f"A round, in seconds: embeddings of {found['dim']}, {found['labels']} labels")
    phases = ("train", "score", "select", "pseudo_label", "audit")
    for column in ("crops", "batch", "round", "of it work", *phases, "scoring alone", "copy", "peak / file"):
        rounds.add_column(column.replace("_", " "), justify="right", overflow="fold")
    for cost in found["rounds"]:
        rounds.add_row(
            f"{cost['crops']:,}",
            str(cost["batch"]),
            f"{cost['seconds']:.2f}",
            f"{cost['processor_seconds']:.2f}",
            *(f"{cost['phases'].get(phase, 0.0):.2f}" for phase in phases),
            f"{cost['predict_seconds']:.3f}",
            f"{cost['copy_seconds']:.3f}",
            f"{cost['peak_bytes'] / cost['file_bytes']:.2f}",
        )
    choices = Table(title="Choosing a batch by other means, in seconds")
    for column in ("", "crops", "batch", "train and score", "choose", ""):
        choices.add_column(column, justify="left" if not column else "right")
    for choice in found["choosing"]:
        cells = [choice[part] for part in ("score_seconds", "select_seconds")]
        choices.add_row(
            choice["name"],
            f"{choice['crops']:,}",
            str(choice["batch"]),
            *("" if cell is None else f"{cell:.3f}" for cell in cells),
            choice["note"],
        )
    table = Table(title="Ratios", show_header=False)
    for name, value in found["ratios"].items():
        table.add_row(name, f"{value:.2f}")
    return [rounds, choices, table]


def alone(function: Callable[..., Any], *given: Any, seconds: float | None = None) -> Any:
    """Call in a process of its own, whose memory is then the call's; stopped after so many seconds.

    Raises ChildProcessError where it takes longer, or does not answer.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, given), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise ChildProcessError(f"more than {seconds:.0f} s")
        answer = receiver.recv()
    except EOFError as error:
        raise ChildProcessError("stopped without an answer") from error
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(answer, Exception):
        raise ChildProcessError(str(answer))
    return answer


def _answer(sender: Connection, function: Callable[..., Any], given: Sequence[Any]) -> None:
    try:
        answer = function(*given)
    except Exception as error:  # noqa: BLE001 - whatever another package raises is what the table says
        answer = ChildProcessError(
            f"{type(error).__name__}: {error}".partition(" with shape")[0].splitlines()[0]
        )
    sender.send(answer)


def _fastest(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    seconds = []
    for _ in range(2 * REPEATS):
        began = clock()
        work()
        seconds.append(clock() - began)
    return min(seconds)


def _peak_bytes() -> int:
    """The most memory this process has held; `getrusage` would count the one it was started from too."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(
            int(line.split()[1]) * 1024
            for line in status.read_text().splitlines()
            if line.startswith("VmHWM")
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
