"""Names and defaults that the help of commands shows: nothing has to be imported to read them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

IMAGE_DATA_SETS: Final = ("digits", "solar-cells")
"""The data sets that are image files, which Label Studio can show."""
DATA_SETS: Final = (*IMAGE_DATA_SETS, "fashion", "animals")
"""All data sets on which labelling can be replayed by name."""
BASELINE: Final = "random"
"""The query strategy that others are compared with."""
DEFAULT_CACHE: Final = Path.home() / ".cache" / "everylabel"
"""Where embeddings are kept."""
