"""Replay labelling: the live backend's own session, answered from known labels."""

from __future__ import annotations

import math
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model import encoders, query
from everylabel.model.pseudo_labels.pre_annotated import mix_in
from everylabel.scripts.replay.estimates import EstimatedRound, estimated

if TYPE_CHECKING:
    from everylabel.model.classifiers.base import Classifier
    from everylabel.model.query import QueryStrategy
    from everylabel.model.session import ActiveLearningSession, Round

PEER_PREFIX = "skactiveml:"
MakeClassifier = Callable[[], "Classifier"]


@dataclass(frozen=True)
class Audit:
    """The quality of a label audit on flipped labels, with as many labels as the budget."""

    auroc: float
    """Of how probably wrong the audit thinks each label, flipped ones against right ones."""
    precision: float
    """The share of flipped labels in the list shown; NaN where the list is empty."""
    length: int
    flipped: int


@dataclass(frozen=True)
class Task:
    """One run: its crops, its strategy and its seed."""

    data: str = ""
    embeddings: Path = Path()
    rows: tuple[int, ...] = ()
    """The rows of the embeddings that are used."""
    labels: tuple[str, ...] = ()
    encoder: str = encoders.DEFAULT
    strategy: str = query.DEFAULT
    seed: int = 0
    budget: int = 100
    batch_size: int = 5
    check_share: float = 0.1
    pseudo_labels: bool = False
    pre_annotated_share: float = 0.0
    """Share of labels, check crops left out, that goes to the crops the model is most confident of."""
    label_noise: float = 0.0
    estimate: bool = False
    """Whether each round's stated accuracy is kept beside the truth."""
    hold_out: float = 0.0
    """Share of each class, sampled by the seed, that is never in the pool: accuracy is then counted on it."""


@dataclass(frozen=True)
class Curve:
    """The result of one run."""

    data: str
    strategy: str
    seed: int
    n_labels: tuple[int, ...]
    accuracy: tuple[float, ...]
    """Balanced accuracy on every crop without a label, after as many labels as `n_labels` says.

    With `hold_out` it is on the crops held out: who finds the few crops of a rare class takes them from the
    others, and what is left of it is then the hardest.
    """
    rare_found: tuple[int, ...]
    """Labels of the rarest class among them."""
    audit: Audit | None
    select_seconds: float
    """The longest any selection took."""
    estimates: tuple[EstimatedRound, ...] = ()
    """What each round stated of its accuracy beside the truth, where that was asked for."""


def replay(task: Task, rows: NDArray[Any], make: MakeClassifier, earlier: Classifier | None = None) -> Curve:
    """Label a pool in whole batches, check crops first, until the budget is spent.

    With `label_noise` that share of answers is wrong; accuracy is still counted on the true labels.

    Args:
        task: the run.
        rows: (n, dim) embeddings.
        make: creates an untrained classifier.
        earlier: a trained one, of an earlier project.
    """
    from everylabel.model.threads import single_threaded  # noqa: PLC0415 - takes long to load

    everything = np.asarray(task.labels)
    held_out = hold_out(everything, task.hold_out, task.seed)
    truth, pool, test = everything[~held_out], rows[~held_out], rows[held_out]
    answers = flip(truth, task.label_noise, task.seed)
    names, counts = np.unique(truth, return_counts=True)
    rarest = names[int(counts.argmin())]
    session = _session(task, pool, make(), earlier)
    budget = min(task.budget, len(truth) - 1)  # something must be left to count accuracy on
    n_labels: list[int] = []
    accuracy: list[float] = []
    rare_found: list[int] = []
    estimates: list[EstimatedRound | None] = []
    slowest = 0.0
    with single_threaded():
        while True:
            labeled = np.fromiter(session.labels, dtype=np.intp)
            last = len(labeled) >= budget
            found = session.run_round(audit=task.estimate)
            slowest = max(slowest, found.seconds["select"])
            if len(labeled):
                n_labels.append(len(labeled))
                if len(test):
                    accuracy.append(_held_out_accuracy(session, everything[held_out], test))
                else:
                    accuracy.append(_balanced_accuracy(found, session, truth, labeled))
                rare_found.append(int((truth[labeled] == rarest).sum()))
                estimates.append(estimated(found, truth, labeled))
            if last:
                break
            room = min(task.batch_size, budget - len(labeled))
            asked = [*found.check, *_mixed(found, session, task.pre_annotated_share)][:room]
            session.add_labels(asked, answers[asked].tolist())
        audit = _audit(session, truth, answers) if task.label_noise else None
    return Curve(
        task.data,
        task.strategy,
        task.seed,
        tuple(n_labels),
        tuple(accuracy),
        tuple(rare_found),
        audit,
        slowest,
        tuple(point for point in estimates if point is not None),
    )


def label_pool(task: Task, pool: NDArray[Any], classifier: Classifier) -> ActiveLearningSession:
    """Label a pool with its true labels until the budget is spent, and return the session."""
    ((session, _),) = deque(label_rounds(task, pool, classifier), maxlen=1)
    return session


def label_rounds(
    task: Task, pool: NDArray[Any], classifier: Classifier
) -> Iterator[tuple[ActiveLearningSession, Round]]:
    """Label a pool with its true labels until the budget is spent, and yield the session after every round."""
    from everylabel.model.threads import single_threaded  # noqa: PLC0415 - takes long to load

    truth = np.asarray(task.labels)
    session = _session(task, pool, classifier)
    with single_threaded():
        while True:
            found = session.run_round(audit=False)
            yield session, found
            room = min(task.batch_size, task.budget - len(session.labels))
            asked = [*found.check, *_mixed(found, session, task.pre_annotated_share)][:room]
            if room <= 0 or not asked:
                return
            session.add_labels(asked, truth[asked].tolist())


def _session(
    task: Task, pool: NDArray[Any], classifier: Classifier, earlier: Classifier | None = None
) -> ActiveLearningSession:
    from everylabel.model.session import ActiveLearningSession  # noqa: PLC0415 - takes long to load

    return ActiveLearningSession(
        pool,
        classifier=classifier,
        strategy=make_strategy(task.strategy),
        batch_size=task.batch_size,
        check_share=task.check_share,
        train_on_pseudo_labels=task.pseudo_labels,
        seed=task.seed,
        earlier=earlier,
    )


def _mixed(found: Round, session: ActiveLearningSession, share: float) -> list[int]:
    """Mix the most confident crops into the batch, as the live backend does."""
    asked, labels = {*found.batch}, session.labels
    confident = [label.index for label in found.pseudo_labels if label.index not in asked]
    n_before = len(labels) - sum(index in labels for index in session.check_crops)
    return mix_in(found.batch, confident, n_before=n_before, share=share)


def run(tasks: Sequence[Task], jobs: int = 1) -> Iterator[Curve]:
    """Run tasks in `jobs` processes, and yield curves in the order they finish.

    A task's result does not depend on the others.
    """
    if jobs == 1:
        for task in tasks:
            yield _run_one(task)
        return
    # Not forked: ONNX Runtime and BLAS hold threads here that a fork would find stopped.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=jobs, mp_context=context) as workers:
        waiting = [workers.submit(_run_one, task) for task in tasks]
        try:
            for finished in as_completed(waiting):
                yield finished.result()
        finally:
            for future in waiting:
                future.cancel()


def make_strategy(name: str) -> QueryStrategy:
    """Create a strategy of ours by name, or one of scikit-activeml: `skactiveml:CoreSet`."""
    if name.startswith(PEER_PREFIX):
        from everylabel.scripts.replay.peers import PeerStrategy  # noqa: PLC0415 - an optional extra

        return PeerStrategy(name.removeprefix(PEER_PREFIX))
    return query.create(name)


def flip(labels: NDArray[Any], share: float, seed: int) -> NDArray[Any]:
    """Return the labels with `share` of them, sampled uniformly, turned into another existing class."""
    if not share:
        return labels
    rng = np.random.default_rng([seed, 7])
    names, codes = np.unique(labels, return_inverse=True)
    wrong = rng.random(len(labels)) < share
    shift = rng.integers(1, len(names), size=len(labels))
    return np.asarray(np.where(wrong, names[(codes + shift) % len(names)], labels))


def hold_out(labels: NDArray[Any], share: float, seed: int) -> NDArray[Any]:
    """Sample `share` of each class, leaving at least one crop of it.

    Returns:
        (n,) bool: True where a crop is held out.
    """
    held = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng([seed, 8])
    for name in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == name))
        held[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return held


def balanced_accuracy(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Return the mean over the classes in `truth` of the share of their crops predicted right."""
    names, codes = np.unique(truth, return_inverse=True)
    right = np.bincount(codes, weights=truth == predicted, minlength=len(names))
    return float((right / np.bincount(codes, minlength=len(names))).mean())


def _run_one(task: Task) -> Curve:
    import torch  # noqa: PLC0415 - takes long to load

    torch.set_num_threads(1)
    pool = np.load(task.embeddings, mmap_mode="r", allow_pickle=False)
    return replay(task, pool[list(task.rows)], classifier_maker(task.encoder))


def classifier_maker(encoder: str) -> MakeClassifier:
    """Return what creates an untrained classifier for the embeddings of an encoder."""
    return encoders.create(encoder, device="cpu", threads=1).make_classifier


def _balanced_accuracy(
    found: Round, session: ActiveLearningSession, truth: NDArray[Any], labeled: NDArray[Any]
) -> float:
    free = np.setdiff1d(np.arange(len(truth)), labeled)
    classes = np.asarray(session.classifier.classes_)
    if found.probabilities is None:
        return balanced_accuracy(truth[free], np.full(len(free), classes[0]))
    return balanced_accuracy(truth[free], classes[found.probabilities[free].argmax(axis=1)])


def _held_out_accuracy(session: ActiveLearningSession, truth: NDArray[Any], rows: NDArray[Any]) -> float:
    classes = np.asarray(session.classifier.classes_)
    return balanced_accuracy(truth, classes[session.classifier.predict_proba(rows).argmax(axis=1)])


def _audit(session: ActiveLearningSession, truth: NDArray[Any], answers: NDArray[Any]) -> Audit:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - takes long to load

    labeled = np.fromiter(session.labels, dtype=np.intp)
    flipped = truth[labeled] != answers[labeled]
    found = session.audit()
    listed = [issue.index for issue in found.issues]
    auroc = float(roc_auc_score(flipped, found.wrong)) if 0 < flipped.sum() < len(flipped) else math.nan
    precision = float(flipped[listed].mean()) if listed else math.nan
    return Audit(auroc, precision, len(listed), int(flipped.sum()))
