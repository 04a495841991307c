"""The labels of a project tell which of two encoders sees more, and do not tell where there is nothing to tell."""

from __future__ import annotations

import numpy as np
import pytest

from everylabel.model.classifiers.embedding import EmbeddingClassifier
from everylabel.model.evaluation.encoder_comparison import OutOfFold, predict_out_of_fold


def crops(seed, n=80, n_classes=4, dim=24):
    """Labels, and a signal of (n, dim) that tells them apart."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % n_classes
    centres = rng.normal(size=(n_classes, dim))
    return [f"class {code}" for code in codes], centres[codes], rng


def seen(signal, noise, rng):
    """Rows of an encoder that sees the signal under so much noise."""
    return (signal + noise * rng.normal(size=signal.shape)).astype(np.float32)


def predicted(rows, labels):
    return predict_out_of_fold(EmbeddingClassifier().adapt(rows), rows, labels)


def test_an_encoder_that_sees_more_is_named_and_one_that_sees_less_is_not_recommended():
    labels, signal, rng = crops(0)
    blurred, clear = predicted(seen(signal, 3.0, rng), labels), predicted(seen(signal, 0.7, rng), labels)
    better, worse = blurred.gain(clear), clear.gain(blurred)
    assert better.is_clear
    assert better.low > 0
    assert worse.points == pytest.approx(-better.points)
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    assert clear.scores().balanced_accuracy > blurred.scores().balanced_accuracy


def test_two_that_see_the_same_are_rarely_told_apart():
    claimed = 0
    for seed in range(12):
        labels, signal, rng = crops(seed)
        one, other = predicted(seen(signal, 2.0, rng), labels), predicted(seen(signal, 2.0, rng), labels)
        claimed += one.gain(other).is_clear
    assert claimed <= 5, (
        "one or two are expected, and six would come by chance in one of a thousand such tests"
    )


def test_a_rare_class_counts_as_much_as_a_large_one():
    codes = np.asarray([0] * 10 + [1] * 90)
    right = (codes == 1).astype(float)
    found = OutOfFold(codes, right, np.ones(100), np.ones(100))
    assert found.scores().balanced_accuracy == pytest.approx(0.5)
    assert found.gain(OutOfFold(codes, np.ones(100), np.zeros(100), np.ones(100))).points == pytest.approx(50)


def test_a_class_with_a_single_label_is_refused():
    labels, signal, rng = crops(2)
    with pytest.raises(ValueError, match="two labels"):
        predicted(seen(signal, 1.0, rng), ["alone", *labels[1:]])
    with pytest.raises(ValueError, match="two classes"):
        predicted(seen(signal, 1.0, rng), ["one"] * len(labels))


def test_labels_of_hard_crops_do_not_speak_against_the_encoder_that_they_are_hard_for():
    """It is wrong on the crops that people were asked about, and on few others: its model is as sure of the pool."""
    codes = np.arange(80) % 2
    hard = np.arange(80) < 60
    confidence = np.concatenate([np.linspace(0.5, 0.6, 60), np.linspace(0.6, 1.0, 20)])
    in_use = OutOfFold(codes, np.where(hard, 0.5, 1.0), np.ones(80), confidence)
    other = OutOfFold(codes, np.full(80, 0.75), np.ones(80), confidence)
    assert in_use.gain(other).points > 5
    pool = np.linspace(0.5, 1.0, 400)
    alike = in_use.gain(other, pool, pool)
    assert alike.points == pytest.approx(0)
    assert not alike.is_clear


def test_an_encoder_whose_model_is_surer_of_the_pool_is_clear_only_where_the_labels_say_so_too():
    codes, sure = np.arange(80) % 2, np.full(80, 0.8)
    in_use = OutOfFold(codes, np.full(80, 0.8), np.full(80, 0.7), sure)
    better = OutOfFold(codes, np.full(80, 0.9), np.full(80, 0.3), sure)
    worse = OutOfFold(codes, np.full(80, 0.7), np.full(80, 0.9), sure)
    unsure = np.linspace(0.6, 0.85, 300)
    surer = unsure + 0.12
    switch = in_use.gain(better, unsure, surer)
    assert switch.is_clear
    assert switch.low < 0 < switch.points < switch.high, "the size is less certain than the side"
    back = better.gain(in_use, surer, unsure)
    assert (back.points, back.is_clear) == (pytest.approx(-switch.points), True)
    assert not in_use.gain(worse, unsure, surer).is_clear
    assert not in_use.gain(better, unsure, unsure + 0.05).is_clear, "under two points"


def test_labels_that_are_like_no_crop_of_the_pool_all_count_the_same():
    codes = np.arange(80) % 2
    in_use = OutOfFold(codes, np.full(80, 0.5), np.full(80, 0.7), np.full(80, 0.55))
    better = OutOfFold(codes, np.full(80, 0.9), np.full(80, 0.3), np.full(80, 0.9))
    assert in_use.gain(better, np.full(300, 0.7), np.full(300, 0.9)).is_clear
