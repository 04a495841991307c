"""How good the model is, how it will improve, and when to stop labelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everylabel.model.lazy import lazy_names

if TYPE_CHECKING:
    from everylabel.model.evaluation.accuracy import AccuracyEstimate, estimate_pool_accuracy
    from everylabel.model.evaluation.certificate import Strata, Tally
    from everylabel.model.evaluation.check_set import (
        CheckPredictions,
        CheckSetEstimate,
        accuracy_interval,
        predict_check_crops,
    )
    from everylabel.model.evaluation.forecast import CurvePoint, Forecast, forecast_gain
    from everylabel.model.evaluation.spot_check import SpotCheckPlan, looks_needed, plan_next_look, stratify
    from everylabel.model.evaluation.stopping import PoolPredictions, StoppingAdvice, stopping_advice

__all__ = [
    "AccuracyEstimate",
    "CheckPredictions",
    "CheckSetEstimate",
    "CurvePoint",
    "Forecast",
    "PoolPredictions",
    "SpotCheckPlan",
    "StoppingAdvice",
    "Strata",
    "Tally",
    "accuracy_interval",
    "estimate_pool_accuracy",
    "forecast_gain",
    "looks_needed",
    "plan_next_look",
    "predict_check_crops",
    "stopping_advice",
    "stratify",
]

__getattr__ = lazy_names(
    __name__,
    {
        "AccuracyEstimate": "accuracy",
        "CheckPredictions": "check_set",
        "CheckSetEstimate": "check_set",
        "CurvePoint": "forecast",
        "Forecast": "forecast",
        "PoolPredictions": "stopping",
        "SpotCheckPlan": "spot_check",
        "StoppingAdvice": "stopping",
        "Strata": "certificate",
        "Tally": "certificate",
        "accuracy_interval": "check_set",
        "estimate_pool_accuracy": "accuracy",
        "forecast_gain": "forecast",
        "looks_needed": "spot_check",
        "plan_next_look": "spot_check",
        "predict_check_crops": "check_set",
        "stopping_advice": "stopping",
        "stratify": "spot_check",
    },
)
