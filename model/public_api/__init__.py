"""everylabel: active learning for image crops in Label Studio.

What is exported here is the learning core, which needs no Label Studio; it is imported when it is used first.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

_EXPORTS = {
    "ActiveLearningSession": "everylabel.model.session",
}

__version__ = version("everylabel")
__all__ = ["ActiveLearningSession", "__version__"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'everylabel' has no attribute {name!r}")
