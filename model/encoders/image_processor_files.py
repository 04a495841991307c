"""The files of a model's folder that say how pictures are made ready for it. It loads no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where an image processor's fields lie in a folder; in the second under `image_processor`."""
CONFIG_FILE = "config.json"
"""A model's configuration; timm's models have the fields of their image processor there."""


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
