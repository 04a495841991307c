"""The contract tests of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from everylabel.model.classifiers.base import Classifier
from everylabel.model.session import ActiveLearningSession

NAMES = ("ant", "bee", "cow")


def make_rows(n: int = 90) -> tuple[NDArray[Any], list[str]]:
    """Make (n, 24) float32 rows of three well separated classes, and their names."""
    rng = np.random.default_rng(2)
    codes = rng.integers(len(NAMES), size=n)
    centres = 3 * np.random.default_rng(1).standard_normal((len(NAMES), 24))
    rows = (centres[codes] + rng.standard_normal((n, 24))).astype(np.float32)
    return rows, [NAMES[code] for code in codes]


class ClassifierContract:
    """Tests of every promise of a classifier: subclass it as `Test…` with a fixture `classifier`, unfitted, for rows of 24."""

    def test_probabilities_are_of_the_classes_by_name_and_sum_to_one(self, classifier: Classifier) -> None:
        rows, names = make_rows()
        fitted = classifier.adapt(rows).fit(rows, names)
        assert fitted.classes_ == NAMES
        probabilities = fitted.predict_proba(rows)
        assert probabilities.shape == (len(rows), 3)
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
        predicted = [NAMES[code] for code in probabilities.argmax(axis=1)]
        assert np.mean([a == b for a, b in zip(predicted, names, strict=True)]) > 0.9

    def test_one_known_class_is_certain(self, classifier: Classifier) -> None:
        rows, _ = make_rows(6)
        fitted = classifier.adapt(rows).fit(rows, ["ant"] * 6)
        assert fitted.classes_ == ("ant",)
        np.testing.assert_allclose(fitted.predict_proba(rows), 1, atol=1e-6)

    def test_features_are_there_before_any_fit(self, classifier: Classifier) -> None:
        rows, names = make_rows()
        found = classifier.adapt(rows).features(rows[:7])
        assert len(found) == 7
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        if classifier.closed_form:
            np.testing.assert_array_equal(classifier.fit(rows, names).features(rows[:7]), found)

    def test_a_fresh_one_is_unfitted_and_fits_the_same(self, classifier: Classifier) -> None:
        rows, names = make_rows()
        fitted = classifier.adapt(rows).fit(rows, names)
        fresh = fitted.fresh()
        assert fresh.classes_ == ()
        with pytest.raises(RuntimeError, match="not been fitted"):
            fresh.predict_proba(rows)
        again = fresh.fit(rows, names).predict_proba(rows)
        np.testing.assert_allclose(again, fitted.predict_proba(rows), atol=1e-6)

    def test_what_is_stored_predicts_the_same_without_pickle(
        self, classifier: Classifier, tmp_path: Path
    ) -> None:
        rows, names = make_rows()
        fitted = classifier.adapt(rows).fit(rows, names)
        arrays: dict[str, Any] = fitted.state()
        np.savez(tmp_path / "model.npz", **arrays)
        with np.load(tmp_path / "model.npz", allow_pickle=False) as saved:
            again = classifier.fresh().load_state(dict(saved))
        assert again.classes_ == fitted.classes_
        np.testing.assert_allclose(again.predict_proba(rows), fitted.predict_proba(rows), atol=1e-6)

    def test_rows_and_labels_that_do_not_pair_up_are_refused(self, classifier: Classifier) -> None:
        rows, names = make_rows()
        for x, labels in ((rows, names[:-1]), (rows[:0], [])):
            with pytest.raises(ValueError, match="one label a row"):
                classifier.fit(x, labels)

    def test_calibration_is_offered_where_a_fit_is_in_closed_form(self, classifier: Classifier) -> None:
        rows, names = make_rows()
        fitted = classifier.adapt(rows).fit(rows, names)
        scores = np.eye(3)[[NAMES.index(name) for name in names]]
        if classifier.closed_form:
            assert classifier.space is not None
            assert fitted.calibrate(scores, names).classes_ == NAMES
        else:
            with pytest.raises(NotImplementedError, match="closed form"):
                fitted.calibrate(scores, names)

    def test_classes_are_calibrated_and_weighed_by_themselves_where_each_has_a_head(
        self, classifier: Classifier
    ) -> None:
        rows, names = make_rows()
        fitted = classifier.adapt(rows).fit(rows, names)
        ahead = np.where(np.asarray(names)[:, None] == NAMES, 0.5, -0.5)
        if not classifier.several:
            with pytest.raises(NotImplementedError, match="head for each class"):
                fitted.calibrate_classes(ahead, names)
            return
        assert classifier.space is not None
        before = fitted.predict_proba(rows)
        ahead[:, 1:] = np.nan
        assert fitted.calibrate_classes(np.full_like(ahead, np.nan), names).classes_ == NAMES
        np.testing.assert_array_equal(fitted.predict_proba(rows), before)
        assert not np.array_equal(fitted.calibrate_classes(ahead, names).predict_proba(rows), before)
        weights = np.ones((len(rows), len(NAMES)))
        np.testing.assert_allclose(fitted.fit(rows, names, weights).predict_proba(rows), before, atol=1e-6)
        weights[40:] = 0
        alone = classifier.fresh().fit(rows[:40], names[:40]).predict_proba(rows)
        np.testing.assert_allclose(fitted.fit(rows, names, weights).predict_proba(rows), alone, atol=1e-6)

    def test_a_session_asks_for_crops_with_it(self, classifier: Classifier) -> None:
        rows, names = make_rows()
        session = ActiveLearningSession(rows, classifier=classifier, check_share=0.2)
        session.add_labels(range(20), names[:20])
        outcome = session.run_round()
        assert outcome.classes == NAMES
        assert len(outcome.batch) == 5
        assert min(outcome.batch) >= 20
