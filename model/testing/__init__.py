"""Contract tests of query strategies, encoders and classifiers: for ours, and for a plugin's author.

A plugin's test file is as short as this (with `pytest` installed):

    from everylabel.model.testing import QueryStrategyContract

    class TestFarthest(QueryStrategyContract):
        @pytest.fixture
        def strategy(self):
            return FarthestQueryStrategy()

A test fails where a promise is not kept.
"""

from __future__ import annotations

import pytest

# Else a failed assert would say nothing of the values. Told before the modules are imported.
pytest.register_assert_rewrite(
    f"{__name__}.classifiers", f"{__name__}.encoders", f"{__name__}.query_strategies"
)

from everylabel.model.testing.classifiers import ClassifierContract  # noqa: E402
from everylabel.model.testing.encoders import EncoderContract  # noqa: E402
from everylabel.model.testing.query_strategies import QueryStrategyContract  # noqa: E402

__all__ = ["ClassifierContract", "EncoderContract", "QueryStrategyContract"]
