"""How good the model is, how it will improve, and when to stop labelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.evaluation.check_set import CheckSetEstimate, accuracy_interval, estimate_accuracy
    from everylabel.model.evaluation.forecast import CurvePoint, Forecast, forecast_gain
    from everylabel.model.evaluation.stopping import PoolPredictions, StoppingAdvice, stopping_advice

__all__ = [
    "CheckSetEstimate",
    "CurvePoint",
    "Forecast",
    "PoolPredictions",
    "StoppingAdvice",
    "accuracy_interval",
    "estimate_accuracy",
    "forecast_gain",
    "stopping_advice",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CheckSetEstimate": "check_set",
        "CurvePoint": "forecast",
        "Forecast": "forecast",
        "PoolPredictions": "stopping",
        "StoppingAdvice": "stopping",
        "accuracy_interval": "check_set",
        "estimate_accuracy": "check_set",
        "forecast_gain": "forecast",
        "stopping_advice": "stopping",
    },
)
