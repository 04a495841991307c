"""The active-learning session: one round is train, score, select, pseudo-label, audit."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.classifiers.torch_classifier import TorchClassifier
from everylabel.model.earlier_model import Comparison
from everylabel.model.evaluation.accuracy import AccuracyEstimate, estimate_pool_accuracy
from everylabel.model.evaluation.check_set import CheckPredictions, check_crops_wanted, predict_check_crops
from everylabel.model.evaluation.stopping import PoolPredictions, StoppingAdvice, stop_set, stopping_advice
from everylabel.model.label_quality.label_errors import LabelAudit, LabelIssue, audit_labels
from everylabel.model.labeled_pool import LabeledPool
from everylabel.model.pool import MappedRows, Rows, gather, release_pages
from everylabel.model.pool_model import PoolModel, Scorer
from everylabel.model.pseudo_labels.base import PseudoLabelRule
from everylabel.model.pseudo_labels.rules import DEFAULT as DEFAULT_RULE
from everylabel.model.pseudo_labels.rules import create_rule
from everylabel.model.pseudo_labels.threshold import PseudoLabeler
from everylabel.model.query import DEFAULT, Query, QueryStrategy, create
from everylabel.model.round import Round, TrainingData
from everylabel.model.trainer import Trainer

__all__ = ["ActiveLearningSession", "Round", "TrainingData"]


class ActiveLearningSession:
    """Decides what to label next in a pool, from the labels so far.

    Invariants: a crop has at most one label; a labelled or excluded crop is never asked for again; a check
    crop is never in a batch and never pseudo-labelled. The same labels, exclusions, check crops, round number
    and seed give the same round, in whatever order the labels came, so a session can be rebuilt from a store
    for every round.

    Args:
        pool: (n, ...) rows, embeddings for a frozen encoder or crops for a torch module; read in chunks, so a
            float16 memory map is fine.
        classifier: what is trained, by default an `EmbeddingClassifier`; a torch module is wrapped in a
            `TorchClassifier`.
        strategy: a query strategy or the name of one.
        batch_size: crops to ask for a round, check crops aside.
        pseudo_labeler: decides which pseudo-labels a `Round` shows: those of confident crops, of classes with
            two labels or more.
        check_share: crops sampled uniformly for the check set, as a share of all labels.
        train_on_pseudo_labels: whether training uses the pseudo-labels that `pseudo_label_rule` chooses.
        pseudo_label_rule: a rule or the name of one: `agreement` or `threshold`.
        round_number: how many rounds were run before.
        seed: makes every choice repeatable.
        device: where a torch module is trained.
        scorer: computes what the classifier's `predict_proba` gives of the pool, where that is done elsewhere.
        earlier: a trained classifier of an earlier project, on rows of the same encoder: it predicts before there are
            labels, and has a say until they outvote it (`everylabel.model.earlier_model`).

    Raises:
        ValueError: a number is outside its range, or there is nothing of a name; the message says what there is.
    """

    def __init__(
        self,
        pool: Rows,
        *,
        classifier: Classifier | torch.nn.Module | None = None,
        strategy: QueryStrategy | str = DEFAULT,
        batch_size: int = 5,
        pseudo_labeler: PseudoLabeler | None = None,
        check_share: float = 0.1,
        train_on_pseudo_labels: bool = True,
        pseudo_label_rule: PseudoLabelRule | str = DEFAULT_RULE,
        round_number: int = 0,
        seed: int = 0,
        device: str | torch.device = "cpu",
        scorer: Scorer | None = None,
        earlier: Classifier | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= check_share < 1:
            raise ValueError(f"check_share must be in [0, 1), got {check_share}")
        rule = create_rule(pseudo_label_rule) if isinstance(pseudo_label_rule, str) else pseudo_label_rule
        if classifier is None:
            classifier = EmbeddingClassifier(seed=seed)
        elif isinstance(classifier, torch.nn.Module):
            classifier = TorchClassifier.around(classifier, device=device, seed=seed)
        self.strategy = create(strategy) if isinstance(strategy, str) else strategy
        self.batch_size = batch_size
        self.check_share = check_share
        self.round_number = round_number
        self.seed = seed
        self._known = LabeledPool(pool)
        self._model = PoolModel(pool, classifier, scorer, earlier)
        self._trainer = Trainer(
            self._known,
            self._model,
            labeler=PseudoLabeler() if pseudo_labeler is None else pseudo_labeler,
            rule=rule if train_on_pseudo_labels else None,
            batch_size=batch_size,
            seed=seed,
        )
        self._history: list[PoolPredictions] = []

    @property
    def pool(self) -> Rows:
        """The rows of all crops."""
        return self._known.rows

    @property
    def classifier(self) -> Classifier:
        """The classifier as last trained; with an earlier one that has a say, both together."""
        return self._model.answering

    @property
    def check_crops(self) -> tuple[int, ...]:
        """Every crop ever sampled for the check set, labelled or not, in the order sampled."""
        return tuple(self._known.check)

    @property
    def labels(self) -> dict[int, str]:
        """The labels so far by crop, ascending."""
        return self._known.labels

    def add_labels(self, indices: Iterable[int], labels: Iterable[str]) -> None:
        """Set the class names of crops; a second label for a crop replaces its first.

        Raises:
            ValueError: the two differ in length; nothing is then set.
            IndexError: a crop is outside the pool; nothing is then set.
        """
        self._known.add_labels(indices, labels)

    def remove_labels(self, indices: Iterable[int]) -> None:
        """Forget labels that were withdrawn; crops without one are passed over."""
        self._known.remove_labels(indices)

    def exclude(self, indices: Iterable[int]) -> None:
        """Stop asking for these crops and pseudo-labelling them: unreadable, or skipped by the annotator."""
        self._known.exclude(indices)

    def set_check_crops(self, sampled: Iterable[int]) -> None:
        """Restore the check crops of earlier rounds, in their order."""
        self._known.set_check(sampled)

    def set_previous_predictions(self, history: Iterable[PoolPredictions]) -> None:
        """Restore what earlier rounds predicted (`Round.predictions`), for stopping advice."""
        self._history = list(history)

    def get_next_batch(self, batch_size: int | None = None) -> list[int]:
        """Return the crops to label next: blind check crops first, then the batch.

        Asking twice changes nothing.
        """
        check, batch = self._select(self.batch_size if batch_size is None else batch_size)
        return [*check, *batch]

    def get_training_data(self) -> TrainingData:
        """Return the labels training uses; pseudo-labels are among them where `train_on_pseudo_labels` is set."""
        return self._trainer.training_data()

    def retrain_model(self) -> None:
        """Train on the labels so far and score the pool; without a label there is nothing to train."""
        self._trainer.train()
        self._model.listen(self.labels, self.seed)
        self._model.score()

    def audit(self) -> LabelAudit:
        """Audit every label by models that have not seen it; positions are those of `labels`, ascending."""
        labels = self.labels
        graph = self._trainer.graph() if self._model.untrained.closed_form else None  # nothing else reads it
        return audit_labels(
            gather(self.pool, np.asarray([*labels], dtype=np.intp)),
            [*labels.values()],
            classifier=self._model.classifier,
            smoothed=None if graph is None else graph.smoothed(graph.positions(labels)),
            seed=self.seed,
        )

    def run_round(self, *, audit: bool = True) -> Round:
        """Run a round: train, score, select, pseudo-label, audit.

        Args:
            audit: whether labels are audited. Without it nothing else changes: a replay of many rounds reads only what
                was asked and predicted.

        Returns:
            What the round found; `round_number` is one higher.
        """
        seconds: dict[str, float] = {}
        # Sampled first: a check crop must not be among the pseudo-labels the model is trained on.
        self._top_up_check(self.batch_size)
        with _timed(self.pool, seconds, "train"):
            self._trainer.train()
        with _timed(self.pool, seconds, "score"):
            if self._trainer.scores_pool_first():
                self._model.score()
            predictions, advice = self._advise()
        with _timed(self.pool, seconds, "pseudo_label"):
            self._trainer.train_on_pseudo_labels()
        with _timed(self.pool, seconds, "score"):
            earlier, comparison = self._model.listen(self.labels, self.seed)
            self._model.score()
        with _timed(self.pool, seconds, "select"):
            check, batch = self._select(self.batch_size)
        with _timed(self.pool, seconds, "pseudo_label"):
            shown = self._trainer.confident_crops()
        with _timed(self.pool, seconds, "audit"):
            issues, checked = _audited(self, self._known, self._model, comparison) if audit else ([], None)
            accuracy = _estimated(self._known, self._model, checked) if audit else None
        self.round_number += 1
        return Round(
            number=self.round_number,
            n_labels=self._known.n_labels,
            classes=self.classifier.classes_,
            check=tuple(check),
            batch=tuple(batch),
            probabilities=self._model.probabilities,
            threshold=self._trainer.labeler.threshold,
            pseudo_labels=shown,
            label_issues=tuple(issues),
            check_set=None if checked is None else checked.counted(),
            accuracy=accuracy,
            seconds=seconds,
            single_classes=self._known.single_classes(self.classifier.classes_in),
            trained_on_pseudo_labels=self._trainer.n_pseudo_labels,
            predictions=predictions,
            stopping=advice,
            earlier=earlier,
        )

    def _advise(self) -> tuple[PoolPredictions | None, StoppingAdvice | None]:
        """Compare models trained on the labels of people: called before pseudo-labels are trained on."""
        if not self._model.can_predict:
            return None, None
        compared = stop_set(len(self.pool), np.flatnonzero(self._known.excluded))
        classes = self._model.classifier.classes_
        now = PoolPredictions(
            self._known.n_labels,
            tuple(compared.tolist()),
            tuple(classes[code] for code in self._model.predict(compared)),
        )
        self._history = [past for past in self._history if past.n_labels != now.n_labels] + [now]
        return now, stopping_advice(self._history)

    def _select(self, batch_size: int) -> tuple[list[int], list[int]]:
        self._top_up_check(batch_size)
        if self._trainer.is_stale:
            self.retrain_model()
        labels = self.labels
        stated, shown = self._model.choosing(len(labels))
        codes = {name: code for code, name in enumerate(sorted(set(labels.values())))}
        query = Query(
            features=MappedRows(self.pool, self._model.classifier.features),
            candidates=np.flatnonzero(self._known.free()),
            labeled=np.asarray([*labels], dtype=np.intp),
            labels=np.asarray([codes[name] for name in labels.values()], dtype=np.intp),
            probabilities=shown,
            seed=_query_seed(self.seed, self._known.n_labels),
        )
        batch = self.strategy.select(query, batch_size)
        if stated is not None:
            confidence = stated[batch].max(axis=1)
            batch = [batch[position] for position in np.argsort(confidence, kind="stable")]
        return self._known.pending_check(), batch

    def _top_up_check(self, batch_size: int) -> None:
        wanted = check_crops_wanted(self._known.n_labels, batch_size, self.check_share)
        self._known.top_up_check(wanted, self.seed)


def _audited(
    session: ActiveLearningSession, known: LabeledPool, model: PoolModel, comparison: Comparison | None
) -> tuple[list[LabelIssue], CheckPredictions | None]:
    """Audit labels of people by models trained on labels of people: pseudo-labels stay out of it."""
    labels = known.labels
    if not labels:
        return [], None
    crops = np.asarray([*labels], dtype=np.intp)
    issues = [
        LabelIssue(int(crops[issue.index]), issue.given_label, issue.suggested_label, issue.score)
        for issue in session.audit().issues
    ]
    is_check = np.isin(crops, known.check)
    rows = gather(known.rows, crops)
    return issues, predict_check_crops(
        model.classifier, rows, [*labels.values()], is_check, session.seed, comparison=comparison
    )


def _estimated(
    known: LabeledPool, model: PoolModel, check: CheckPredictions | None
) -> AccuracyEstimate | None:
    """Estimate the accuracy of the model in use on the crops without a label."""
    if model.probabilities is None:
        return None
    left = ~known.excluded
    left[[*known.labels]] = False
    # Of a class that an earlier model alone knows, nothing here says how often it is right.
    labelled = {name for label in known.labels.values() for name in model.classifier.classes_in(label)}
    unlabelled = {
        name for label in model.answering.classes_ for name in model.classifier.classes_in(label)
    } - labelled
    return estimate_pool_accuracy(
        model.probabilities[left],
        model.answering.classes_,
        known.n_labels,
        check=check,
        single_classes=(*known.single_classes(model.classifier.classes_in), *unlabelled),
        # No replay calibrated what an earlier model says.
        calibrated=model.classifier.closed_form and not model.share,
    )


@contextmanager
def _timed(pool: Rows, seconds: dict[str, float], phase: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    release_pages(pool)
    seconds[phase] = seconds.get(phase, 0.0) + time.perf_counter() - start


def _query_seed(seed: int, n_labels: int) -> int:
    state: NDArray[Any] = np.random.SeedSequence([seed, n_labels, 1]).generate_state(1)
    return int(state[0])
