"""Generate the figures of docs/performance.md: performance.json, two plots, and the tables between comments.

`python -m everylabel.scripts.benchmarks.performance_page` writes them anew from performance.json, without measuring.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from everylabel.scripts.benchmarks.machine import sentence
from everylabel.scripts.benchmarks.performance_plot import plot_choosing, plot_rounds
from everylabel.scripts.benchmarks.performance_tables import (
    Table,
    classic_tables,
    embedding_tables,
    largest_round,
    request_tables,
    round_tables,
    strategy_tables,
)
from everylabel.scripts.generated_text import insert

Parts = Mapping[str, dict[str, Any]]
RESULTS, PAGE = "performance.json", "performance.md"
PLOTS: dict[str, tuple[str, str, Callable[[Mapping[str, Any], Path], None]]] = {
    "rounds": ("performance-rounds.png", "Seconds of a round by crops, and by phase", plot_rounds),
    "strategies": ("performance-choosing.png", "Seconds to choose by strategy and pool", plot_choosing),
}


def write(measured: Parts, out: Path) -> None:
    """Write measurements into a folder; parts measured earlier stay as they were.

    Raises:
        ValueError: a part of the page begins and does not end.
    """
    out.mkdir(parents=True, exist_ok=True)
    results, page = out / RESULTS, out / PAGE
    earlier = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    parts = {**earlier, **measured}
    results.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
    text = page.read_text(encoding="utf-8") if page.exists() else "# Performance\n"
    for what, written in sections(parts).items():
        text = insert(text, what, written)
    for name in PLOTS.keys() & parts.keys():
        file, _, draw = PLOTS[name]
        draw(parts[name], out / file)
    page.write_text(text, encoding="utf-8")


def sections(parts: Parts) -> dict[str, str]:
    """Return the text of every measured part, by the name in its first comment."""
    found: dict[str, str] = {}
    if rounds := parts.get("rounds"):
        found["--pool: rounds"] = _section(rounds, round_tables(rounds), "rounds")
        found["--pool: classic"] = "\n".join(table.markdown() for table in classic_tables(rounds))
    if strategies := parts.get("strategies"):
        found["--pool: strategies"] = _section(strategies, strategy_tables(strategies), "strategies")
    if requests := parts.get("requests"):
        ours = largest_round(rounds) if rounds else None
        found["--pool: requests"] = _section(requests, request_tables(requests, ours))
    if embedding := parts.get("embedding"):
        found["--embed"] = _section(embedding, embedding_tables(embedding))
    return found


def _section(part: Mapping[str, Any], tables: list[Table], plot: str | None = None) -> str:
    lines = [f"    {part['command']}", "", sentence(part["machine"]), ""]
    if plot is not None:
        file, says, _ = PLOTS[plot]
        lines += [f"![{says}]({file})", ""]
    return "\n".join([*lines, *(table.markdown() for table in tables)])


if __name__ == "__main__":
    write({}, Path("docs"))
