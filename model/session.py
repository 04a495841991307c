"""The active-learning session: one round is train, score, select, pseudo-label, audit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model import label_set
from model.classifiers.base import Classifier
from model.classifiers.embedding import EmbeddingClassifier
from model.classifiers.multi_label import MultiLabelClassifier
from model.classifiers.torch_classifier import TorchClassifier
from model.evaluation.check_set import CheckSetEstimate, check_crops_wanted, estimate_accuracy
from model.evaluation.stopping import PoolPredictions, StoppingAdvice, stop_set, stopping_advice
from model.label_quality.label_errors import LabelAudit, LabelIssue, audit_labels
from model.pool import MappedRows, Rows, draw, gather, let_go
from model.pseudo_labels.agreement import agreed_labels
from model.pseudo_labels.pool_graph import PoolGraph
from model.pseudo_labels.threshold import (
    NONE_CONFIDENT,
    ConfidentCrops,
    PseudoLabeler,
    expand_with_pseudo_labels,
)
from model.query import DEFAULT, Query, QueryStrategy, create
from model.round import Round, TrainingData

__all__ = ["ActiveLearningSession", "Round", "TrainingData"]

# Under the threshold rule a guess weighs half a human label: with at most one guess to two labels, a fifth of
# the whole.
PSEUDO_LABEL_WEIGHT = 0.5
PSEUDO_LABEL_RULES = ("agreement", "threshold")


class ActiveLearningSession:
    """Decides what to label next in a pool, from the labels so far.

    `pool`: (n, ...) rows, embeddings for a frozen encoder or crops for a torch module; read in chunks, so a
    float16 memory map is fine. `classifier`: what is trained (default: `EmbeddingClassifier`); a torch module
    is wrapped in a `TorchClassifier`. `pseudo_label_after`: human labels needed before any pseudo-label.
    `check_share`: blind uniform draws as a share of all labels. `train_on_pseudo_labels` adds to training, by
    `pseudo_label_rule`, the crops that two opinions agree on ("agreement": with the embedding classifier, and
    only where out-of-fold loss on human labels does not rise) or the most confident ones ("threshold"). The
    pseudo-labels of a `Round`, the ones to show, are confident under either, and of classes with two labels or more. `scorer` computes what the
    classifier's `predict_proba` gives of the pool, where that is done elsewhere.

    Invariants: a crop has at most one label; a labelled or excluded crop is never asked for again; a check
    crop is never in a batch and never pseudo-labelled. The same labels, exclusions, check draws, round number
    and seed give the same round, in whatever order the labels came, so a session can be rebuilt from a store
    for every round.
    """

    def __init__(
        self,
        pool: Rows,
        *,
        classifier: Classifier | torch.nn.Module | None = None,
        strategy: QueryStrategy | str = DEFAULT,
        batch_size: int = 5,
        pseudo_labeler: PseudoLabeler | None = None,
        pseudo_label_after: int = 10,
        check_share: float = 0.1,
        train_on_pseudo_labels: bool = True,
        pseudo_label_rule: str = "agreement",
        round_number: int = 0,
        seed: int = 0,
        device: str | torch.device = "cpu",
        scorer: Callable[[Classifier, Rows], NDArray[Any]] | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= check_share < 1:
            raise ValueError(f"check_share must be in [0, 1), got {check_share}")
        if pseudo_label_rule not in PSEUDO_LABEL_RULES:
            raise ValueError(
                f"pseudo_label_rule must be one of {', '.join(PSEUDO_LABEL_RULES)}, got {pseudo_label_rule!r}"
            )
        if classifier is None:
            classifier = EmbeddingClassifier(seed=seed)
        elif isinstance(classifier, torch.nn.Module):
            classifier = TorchClassifier.around(classifier, device=device, seed=seed)
        self.pool = pool
        self._scorer = scorer or _scored_here
        self.strategy = create(strategy) if isinstance(strategy, str) else strategy
        self.batch_size = batch_size
        self.pseudo_labeler = pseudo_labeler if pseudo_labeler is not None else PseudoLabeler()
        self.pseudo_label_after = pseudo_label_after
        self.check_share = check_share
        self.train_on_pseudo_labels = train_on_pseudo_labels
        self.pseudo_label_rule = pseudo_label_rule
        self.round_number = round_number
        self.seed = seed
        # Never fitted: every training starts from it, so a round depends on its labels and not on rounds
        # before.
        self._untrained = classifier.fresh().adapt(pool)
        let_go(pool)
        self._classifier = self._untrained.fresh()
        self._labels: dict[int, str] = {}
        self._excluded: NDArray[Any] = np.zeros(len(pool), dtype=bool)
        self._check: list[int] = []
        self._probabilities: NDArray[Any] | None = None
        self._guessed = _NOTHING_GUESSED
        self._graph: PoolGraph | None = None
        self._graph_is_current = False
        self._history: list[PoolPredictions] = []
        self._stale = True

    @property
    def classifier(self) -> Classifier:
        """The classifier as last trained."""
        return self._classifier

    @property
    def check_crops(self) -> tuple[int, ...]:
        """Every crop ever drawn for the check set, labelled or not, in the order drawn."""
        return tuple(self._check)

    @property
    def labels(self) -> dict[int, str]:
        """The labels so far by crop, ascending."""
        return {index: self._labels[index] for index in sorted(self._labels)}

    def add_labels(self, indices: Iterable[int], labels: Iterable[str]) -> None:
        """Set the class names of crops; a second label for a crop replaces its first.

        Raises ValueError when the two differ in length and IndexError for a crop outside the pool; nothing is
        then set.
        """
        crops, names = self._checked(indices), [str(label) for label in labels]
        if len(crops) != len(names):
            raise ValueError(f"one label a crop is needed: got {len(crops)} crops and {len(names)} labels")
        self._labels.update(zip(crops, names, strict=True))
        self._stale, self._graph_is_current = True, False

    def remove_labels(self, indices: Iterable[int]) -> None:
        """Forget labels that were withdrawn; crops without one are passed over."""
        for index in self._checked(indices):
            self._labels.pop(index, None)
        self._stale, self._graph_is_current = True, False

    def exclude(self, indices: Iterable[int]) -> None:
        """Never ask for these crops nor pseudo-label them: unreadable, or skipped by the annotator."""
        self._excluded[self._checked(indices)] = True
        self._graph_is_current = False

    def set_check_crops(self, drawn: Iterable[int]) -> None:
        """Restore the check draws of earlier rounds, in their order."""
        self._check = list(dict.fromkeys(self._checked(drawn)))

    def get_next_batch(self, batch_size: int | None = None) -> list[int]:
        """The crops to label next: blind check crops first, then the batch. Asking twice changes nothing."""
        check, batch = self._select(self.batch_size if batch_size is None else batch_size)
        return [*check, *batch]

    def set_previous_predictions(self, history: Iterable[PoolPredictions]) -> None:
        """Restore what earlier rounds predicted (`Round.predictions`), for stopping advice."""
        self._history = list(history)

    def get_training_data(self) -> TrainingData:
        """The labels training uses; pseudo-labels are among them where `train_on_pseudo_labels` is set."""
        human = self.labels
        indices = [*human, *self._guessed.indices]
        return TrainingData(
            indices=tuple(indices),
            labels=(*human.values(), *self._guessed.labels),
            weights=np.concatenate([np.ones(len(human)), self._guessed.weights]),
            is_pseudo=np.arange(len(indices)) >= len(human),
        )

    def retrain_model(self) -> None:
        """Train on the labels so far and score the pool; without a label there is nothing to train."""
        self._train()
        self._score()

    def audit(self) -> LabelAudit:
        """Judge every label by models that have not seen it; positions are those of `labels`, ascending."""
        labeled = sorted(self._labels)
        graph = self._pool_graph()
        return audit_labels(
            gather(self.pool, np.asarray(labeled, dtype=np.intp)),
            [self._labels[index] for index in labeled],
            classifier=self._classifier,
            smoothed=None if graph is None else graph.smoothed(graph.positions(labeled)),
            seed=self.seed,
        )

    def run_round(self, *, audit: bool = True) -> Round:
        """Train, score, select, pseudo-label, audit; counts the round.

        Without `audit` nothing else changes: a replay of many rounds reads only what was asked and guessed.
        """
        seconds: dict[str, float] = {}
        # Drawn first: a check crop must not be among the pseudo-labels the model is trained on.
        self._draw_check_crops(self.batch_size)
        with self._timed(seconds, "train"):
            self._train()
        with self._timed(seconds, "score"):
            # Where pseudo-labels may train another head, only the crops asked about are scored before.
            if not self._may_agree():
                self._score()
            predictions, advice = self._advise()
        with self._timed(seconds, "pseudo_label"):
            self._train_on_guesses()
        with self._timed(seconds, "score"):
            self._score()
        with self._timed(seconds, "select"):
            check, batch = self._select(self.batch_size)
        with self._timed(seconds, "pseudo_label"):
            threshold, pseudo = self._pseudo_label()
        with self._timed(seconds, "audit"):
            issues, check_set = self._audit() if audit else ([], None)
        self.round_number += 1
        return Round(
            number=self.round_number,
            n_labels=len(self._labels),
            classes=self._classifier.classes_,
            check=tuple(check),
            batch=tuple(batch),
            probabilities=self._probabilities,
            threshold=threshold,
            pseudo_labels=pseudo,
            label_issues=tuple(issues),
            check_set=check_set,
            seconds=seconds,
            single_classes=self._single_classes(),
            trained_on_pseudo_labels=len(self._guessed.indices),
            predictions=predictions,
            stopping=advice,
        )

    def _checked(self, indices: Iterable[int]) -> list[int]:
        crops = np.fromiter(indices, dtype=np.intp)
        outside = crops[(crops < 0) | (crops >= len(self.pool))]
        if len(outside):
            raise IndexError(
                f"crops {outside[:5].tolist()} are not in the pool, which has crops 0 to {len(self.pool) - 1}"
            )
        checked: list[int] = crops.tolist()
        return checked

    def _train(self) -> None:
        self._guessed = _NOTHING_GUESSED
        self._fit_anew()
        self._stale = False

    def _fit_anew(self) -> None:
        self._classifier = self._untrained.fresh()
        self._probabilities = None
        data = self.get_training_data()
        if data.indices:
            rows = gather(self.pool, np.asarray(data.indices, dtype=np.intp))
            self._classifier.fit(rows, data.labels, data.weights)

    @property
    def _has_model(self) -> bool:
        return len(self._classifier.classes_) >= 2

    def _score(self) -> None:
        if self._has_model and self._probabilities is None:
            self._probabilities = self._scorer(self._classifier, self.pool)

    def _best(self, crops: NDArray[Any]) -> NDArray[Any]:
        """The most probable class of these crops, scored alone while the pool has not been: (m,) columns."""
        if self._probabilities is not None:
            return np.asarray(self._probabilities[crops].argmax(axis=1))
        return np.asarray(self._classifier.predict_proba(gather(self.pool, crops)).argmax(axis=1))

    def _may_guess(self) -> bool:
        enough = len(self._labels) >= self.pseudo_label_after
        return self.train_on_pseudo_labels and self._has_model and enough

    def _may_agree(self) -> bool:
        compares = isinstance(self._untrained, EmbeddingClassifier)
        return compares and self.pseudo_label_rule == "agreement" and self._may_guess()

    def _train_on_guesses(self) -> None:
        """Train again with pseudo-labels, by the rule that is set."""
        if not self._may_guess():
            return
        self._guessed = self._agreed() if self.pseudo_label_rule == "agreement" else self._confident()
        if self._guessed.indices:
            self._fit_anew()
            if isinstance(self._classifier, EmbeddingClassifier) and self._guessed.scores is not None:
                # The head judges itself on labels its pseudo-labels came from: these scores are out of fold.
                self._classifier.calibrate(self._guessed.scores, list(self.labels.values()))

    def _agreed(self) -> _Guessed:
        graph = self._pool_graph()
        if graph is None:
            return _NOTHING_GUESSED
        human, classes = self.labels, self._classifier.classes_
        found = agreed_labels(
            graph,
            graph.positions(human),
            np.searchsorted(classes, list(human.values())),
            np.flatnonzero(self._free()[graph.rows]),
            self._best(graph.rows),
            len(classes),
            seed=self.seed,
        )
        if not found.accepted:
            return _NOTHING_GUESSED
        return _Guessed(
            tuple(found.indices.tolist()),
            tuple(classes[code] for code in found.codes),
            found.weights,
            found.scores,
        )

    def _confident(self) -> _Guessed:
        self._score()
        # More than one a label are not taken.
        guesses = self._pseudo_label()[1][: len(self._labels)]
        indices, labels = expand_with_pseudo_labels(
            np.zeros(len(self._labels), dtype=np.intp),
            [""] * len(self._labels),
            np.asarray([guess.index for guess in guesses], dtype=np.intp),
            [guess.label for guess in guesses],
        )
        taken = len(indices) - len(self._labels)
        return _Guessed(
            tuple(int(index) for index in indices[-taken:]) if taken else (),
            tuple(str(label) for label in labels[-taken:]) if taken else (),
            np.full(taken, PSEUDO_LABEL_WEIGHT),
        )

    def _pool_graph(self) -> PoolGraph | None:
        """The pool's neighbour graph; None for a classifier whose features are learned from the labels."""
        if not isinstance(self._untrained, EmbeddingClassifier):
            return None
        if not self._graph_is_current:
            usable = np.flatnonzero(~self._excluded)
            features = MappedRows(self.pool, self._untrained.features)
            self._graph = PoolGraph.build(features, self._labels, usable, seed=self.seed, known=self._graph)
            self._graph_is_current = True
        return self._graph

    def _advise(self) -> tuple[PoolPredictions | None, StoppingAdvice | None]:
        """Judge stability by models trained on human labels: called before pseudo-labels are trained on."""
        if not self._has_model:
            return None, None
        looked_at = stop_set(len(self.pool), np.flatnonzero(self._excluded))
        best = self._best(looked_at)
        now = PoolPredictions(
            len(self._labels),
            tuple(looked_at.tolist()),
            tuple(self._classifier.classes_[code] for code in best),
        )
        self._history = [past for past in self._history if past.n_labels != now.n_labels] + [now]
        return now, stopping_advice(self._history)

    def _select(self, batch_size: int) -> tuple[list[int], list[int]]:
        self._draw_check_crops(batch_size)
        if self._stale or not set(self._check).isdisjoint(self._guessed.indices):
            self.retrain_model()
        candidates = np.flatnonzero(self._free())
        labeled = np.asarray(sorted(self._labels), dtype=np.intp)
        names = {name: code for code, name in enumerate(sorted(set(self._labels.values())))}
        query = Query(
            features=MappedRows(self.pool, self._classifier.features),
            candidates=candidates,
            labeled=labeled,
            labels=np.asarray([names[self._labels[index]] for index in labeled.tolist()], dtype=np.intp),
            probabilities=self._probabilities,
            seed=self._seed(1),
        )
        batch = self.strategy.select(query, batch_size)
        if self._probabilities is not None:
            confidence = self._probabilities[batch].max(axis=1)
            batch = [batch[position] for position in np.argsort(confidence, kind="stable")]
        return self._pending_check(), batch

    def _draw_check_crops(self, batch_size: int) -> None:
        """Top the check set up to its share; a draw stays until it is labelled or excluded."""
        counted = sum(1 for index in self._check if not self._excluded[index])
        wanted = check_crops_wanted(len(self._labels), batch_size, self.check_share) - counted
        if wanted > 0:
            rng = np.random.default_rng([self.seed, len(self._check), 2])
            drawn = draw(np.flatnonzero(self._free()), wanted, rng)
            self._check.extend(int(index) for index in drawn)

    def _pending_check(self) -> list[int]:
        return [index for index in self._check if index not in self._labels and not self._excluded[index]]

    def _names(self, label: str) -> tuple[str, ...]:
        several = isinstance(self._untrained, MultiLabelClassifier)
        return label_set.split(label) if several else (label,)

    def _single_classes(self) -> tuple[str, ...]:
        counts = Counter(name for label in self._labels.values() for name in self._names(label))
        return tuple(sorted(name for name, count in counts.items() if count == 1))

    def _free(self) -> NDArray[Any]:
        """Which crops may be asked for or guessed: neither labelled nor excluded nor a check crop; (n,) bool."""
        free = ~self._excluded
        free[list(self._labels)] = False
        free[self._check] = False
        return free

    def _pseudo_label(self) -> tuple[float, ConfidentCrops]:
        # A round may follow every single label: the threshold falls once a batch of labels, not once a call.
        gained = max(0, len(self._labels) - self.pseudo_label_after)
        self.pseudo_labeler.reset()
        self.pseudo_labeler.step(gained // self.batch_size)
        threshold = self.pseudo_labeler.threshold
        if self._probabilities is None or len(self._labels) < self.pseudo_label_after:
            return threshold, NONE_CONFIDENT
        guesses = self.pseudo_labeler.select(self._probabilities)
        # One wrong label would pull its near-duplicates along, and nothing would contradict it.
        alone = {*self._single_classes()}
        checked = np.asarray([alone.isdisjoint(self._names(label)) for label in self._classifier.classes_])
        confident = np.flatnonzero(guesses.mask & self._free() & checked[guesses.labels])
        return threshold, ConfidentCrops(
            confident, guesses.labels[confident], guesses.confidences[confident], self._classifier.classes_
        )

    def _audit(self) -> tuple[list[LabelIssue], CheckSetEstimate | None]:
        """Judge human labels by models trained on human labels: pseudo-labels stay out of it."""
        if not self._labels:
            return [], None
        labeled = sorted(self._labels)
        labels = [self._labels[index] for index in labeled]
        rows = gather(self.pool, np.asarray(labeled, dtype=np.intp))
        issues = [
            LabelIssue(labeled[issue.index], issue.given_label, issue.suggested_label, issue.score)
            for issue in self.audit().issues
        ]
        drawn = set(self._check)
        is_check = np.asarray([index in drawn for index in labeled])
        return issues, estimate_accuracy(self._classifier, rows, labels, is_check, self.seed)

    @contextmanager
    def _timed(self, seconds: dict[str, float], phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        let_go(self.pool)
        seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start

    def _seed(self, purpose: int) -> int:
        state = np.random.SeedSequence([self.seed, len(self._labels), purpose]).generate_state(1)
        return int(state[0])


def _scored_here(classifier: Classifier, pool: Rows) -> NDArray[Any]:
    return classifier.predict_proba(pool)


@dataclass(frozen=True)
class _Guessed:
    """Pseudo-labels that training uses."""

    indices: tuple[int, ...]
    labels: tuple[str, ...]
    weights: NDArray[Any]
    scores: NDArray[Any] | None = None
    """(n, k) out-of-fold scores of the human labels, in the order of their crops."""


_NOTHING_GUESSED = _Guessed((), (), np.zeros(0))
