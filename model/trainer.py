"""How a session's model is trained: on the labels of people, then with pseudo-labels where they help."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from everylabel.model.labeled_pool import LabeledPool
from everylabel.model.pool import MappedRows
from everylabel.model.pool_model import PoolModel
from everylabel.model.pseudo_labels.base import PseudoLabelQuery, PseudoLabelRule, TrainingPseudoLabels
from everylabel.model.pseudo_labels.confident_crops import NONE_CONFIDENT, ConfidentCrops
from everylabel.model.pseudo_labels.pool_graph import PoolGraph
from everylabel.model.pseudo_labels.threshold import PseudoLabeler
from everylabel.model.round import TrainingData

EARLIER_DECIDES = 0.5
"""From this share on, confident crops are shown below the labeler's fewest labels: the earlier model is what is confident."""


class Trainer:
    """Trains a pool's model, and says which pseudo-labels training uses and which ones are shown.

    Args:
        known: what is known of the pool; changes there count in the next call.
        model: what is trained.
        labeler: decides from which confidence on a pseudo-label is shown, and from how many labels on there is any.
        rule: chooses the pseudo-labels to train on; None leaves them out.
        batch_size: labels after which the labeler's threshold falls a step.
        seed: makes every choice repeatable.
    """

    def __init__(
        self,
        known: LabeledPool,
        model: PoolModel,
        *,
        labeler: PseudoLabeler,
        rule: PseudoLabelRule | None,
        batch_size: int,
        seed: int,
    ) -> None:
        self.labeler = labeler
        self._known = known
        self._model = model
        self._rule = rule
        self._batch_size = batch_size
        self._seed = seed
        self._pseudo_labels = TrainingPseudoLabels()
        self._trained_on = -1
        self._graph: PoolGraph | None = None
        self._graph_of = -1

    @property
    def n_pseudo_labels(self) -> int:
        """How many pseudo-labels the model was last trained on."""
        return len(self._pseudo_labels.indices)

    @property
    def is_stale(self) -> bool:
        """True if labels have changed since the last training, or a pseudo-label in it is a check crop by now."""
        used = self._pseudo_labels.indices
        return self._trained_on != self._known.label_changes or not set(self._known.check).isdisjoint(used)

    def training_data(self) -> TrainingData:
        """Return the labels training uses, pseudo-labels after those of people."""
        human, pseudo = self._known.labels, self._pseudo_labels
        indices = [*human, *pseudo.indices]
        return TrainingData(
            indices=tuple(indices),
            labels=(*human.values(), *pseudo.labels),
            weights=np.concatenate([np.ones((len(human), *pseudo.weights.shape[1:])), pseudo.weights]),
            is_pseudo=np.arange(len(indices)) >= len(human),
        )

    def train(self) -> None:
        """Train on the labels of people alone."""
        self._pseudo_labels = TrainingPseudoLabels()
        self._model.fit(self.training_data())
        self._trained_on = self._known.label_changes

    def scores_pool_first(self) -> bool:
        """Tell whether the pool is worth scoring before pseudo-labels: otherwise the model may be replaced unscored."""
        rule = self._rule_in_use()
        return rule is None or rule.needs_scores or not self._has_neighbours

    def train_on_pseudo_labels(self) -> None:
        """Train again with the pseudo-labels that the rule chooses."""
        rule = self._rule_in_use()
        if rule is None:
            return
        labels, untrained = self._known.labels, self._model.untrained
        query = PseudoLabelQuery(
            labels=labels,
            free=self._known.free(),
            classes=self._model.classifier.classes_,
            predict=self._model.predict,
            confident=self.confident_crops,
            graph=self.graph,
            seed=self._seed,
            classes_in=untrained.classes_in if untrained.several else None,
        )
        self._pseudo_labels = rule.select(query)
        if self._pseudo_labels.indices:
            self._model.fit(self.training_data())
            if self._pseudo_labels.scores is not None:
                # Leave-one-out would use labels that its pseudo-labels came from: these scores are out of fold.
                trained = self._model.classifier
                calibrate = trained.calibrate_classes if trained.several else trained.calibrate
                calibrate(self._pseudo_labels.scores, [*labels.values()])

    def confident_crops(self) -> ConfidentCrops:
        """Return the free crops that clear the threshold, none of them of a class with one label."""
        self.labeler.follow(self._known.n_labels, self._batch_size)
        probabilities = self._model.score()
        # An earlier model has been trained on labels enough of its own.
        enough = self._known.n_labels >= self.labeler.min_labels or self._model.share >= EARLIER_DECIDES
        if probabilities is None or not enough:
            return NONE_CONFIDENT
        found = self.labeler.select(probabilities)
        # One wrong label would pull its near-duplicates along, and nothing would contradict it.
        classifier = self._model.answering
        alone = {*self._known.single_classes(classifier.classes_in)}
        checked: NDArray[Any] = np.asarray(
            [alone.isdisjoint(classifier.classes_in(name)) for name in classifier.classes_]
        )
        confident = np.flatnonzero(found.mask & self._known.free() & checked[found.labels])
        return ConfidentCrops(
            confident, found.labels[confident], found.confidences[confident], classifier.classes_
        )

    def graph(self) -> PoolGraph | None:
        """Return the pool's neighbour graph; None for a classifier whose features are learned from the labels."""
        if not self._has_neighbours:
            return None
        if self._graph_of != self._known.changes:
            usable = np.flatnonzero(~self._known.excluded)
            features = MappedRows(self._known.rows, self._model.untrained.features)
            self._graph = PoolGraph.build(
                features, self._known.labels, usable, seed=self._seed, known=self._graph
            )
            self._graph_of = self._known.changes
        return self._graph

    @property
    def _has_neighbours(self) -> bool:
        """True if no label changes which crops are neighbours."""
        return self._model.untrained.closed_form or self._model.untrained.several

    def _rule_in_use(self) -> PseudoLabelRule | None:
        enough = self._known.n_labels >= self.labeler.min_labels
        return self._rule if self._model.can_predict and enough else None
