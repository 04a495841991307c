"""What more labels are expected to buy."""

from __future__ import annotations

import numpy as np
import pytest

from everylabel.model.evaluation.forecast import CurvePoint, forecast_gain


def curve(error_at, check_per_label=0.2, labels=(10, 15, 20, 30, 40, 60, 80, 100)):
    points = []
    for n in labels:
        check = max(1, round(n * check_per_label))
        points.append(CurvePoint(n, round(check * (1 - error_at(n))), check))
    return points


def test_too_few_rounds_or_check_labels_say_nothing():
    assert forecast_gain([], 10) is None
    assert forecast_gain(curve(lambda n: 0.3, labels=(10, 20, 40)), 10) is None
    assert forecast_gain(curve(lambda n: 0.3, check_per_label=0.01), 10) is None


def test_rounds_of_one_label_each_are_not_a_long_curve():
    assert forecast_gain([CurvePoint(n, 5, 8) for n in range(80, 90)], 10) is None


def test_a_curve_that_still_falls_promises_more_than_one_that_is_flat():
    falling = forecast_gain(curve(lambda n: 0.9 * (n / 10) ** -0.5, 3), 50)
    flat = forecast_gain(curve(lambda n: 0.1, 3), 50)
    assert falling.gain > 2 * flat.gain
    assert flat.gain < 0.02


def test_more_labels_promise_more_and_never_a_loss():
    points = curve(lambda n: 0.6 * (n / 10) ** -0.5)
    ten, fifty = (forecast_gain(points, more) for more in (10, 50))
    assert 0 <= ten.low <= ten.gain <= ten.high < fifty.high
    assert ten.gain < fifty.gain


def test_few_check_crops_leave_more_open():
    few, many = (forecast_gain(curve(lambda n: 0.5 * (n / 10) ** -0.4, share), 50) for share in (0.1, 5))
    assert few.high - few.low > many.high - many.low


def test_all_right_and_all_wrong_are_answered():
    for correct in (0, 1):
        found = forecast_gain([CurvePoint(n, correct * n, n) for n in (10, 20, 40, 80)], 10)
        assert np.isfinite([found.gain, found.low, found.high]).all()


def test_nothing_is_forecast_of_no_labels():
    with pytest.raises(ValueError, match="at least 1"):
        forecast_gain([], 0)
