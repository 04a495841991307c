"""Measurements as tables, the same for a terminal and for docs/performance.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import rich.table

from everylabel.scripts.benchmarks.made_embeddings import Shape

PHASES: Final = ("train", "score", "select", "pseudo_label", "audit")
ROUND_COLUMNS: Final = (
    *("crops", "batch", "round", "work", "train", "score", "choose", "pseudo-labels", "audit"),
    *("peak, GB", "peak / file"),
)
SCORING_COLUMNS: Final = (
    *("crops", "file, GB", "scoring", "of it work", "plain copy", "copy into memory at hand"),
    *("scoring, GB a second", "copy, GB a second", "scoring / copy"),
)
EXTRAPOLATED: Final = 1_000_000
"""Crops that ranking through requests is extrapolated to."""
Part = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of text under a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table in Markdown, its title as a sentence before it."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return f"{self.title}:\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"

    def shown(self) -> rich.table.Table:
        """Return the table for a terminal."""
        table = rich.table.Table(title=self.title)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(cell.replace("**", "") for cell in row))
        return table


def round_tables(part: Part) -> list[Table]:
    """Return two tables a shape of embeddings: rounds and scoring."""
    tables: list[Table] = []
    for pool in part["pools"]:
        rounds = [
            (
                f"{cost['crops']:,}",
                str(cost["batch"]),
                f"{cost['seconds']:.2f}",
                f"{cost['processor_seconds']:.2f}",
                *(f"{cost['phases'].get(phase, 0.0):.2f}" for phase in PHASES),
                f"{cost['peak_bytes'] / 1e9:.2f}",
                f"{cost['peak_bytes'] / cost['file_bytes']:.2f}",
            )
            for cost in pool["rounds"]
        ]
        tables.append(
            Table(
                f"A round on embeddings of {_shape(pool)}, {part['labels']} labels, in seconds",
                ROUND_COLUMNS,
                tuple(rounds),
            )
        )
        scoring = [
            (
                f"{cost['crops']:,}",
                f"{cost['file_bytes'] / 1e9:.2f}",
                *(
                    f"{cost[name]:.3f}"
                    for name in ("seconds", "processor_seconds", "copy_seconds", "copy_again_seconds")
                ),
                f"{cost['file_bytes'] / cost['seconds'] / 1e9:.1f}",
                f"{cost['file_bytes'] / cost['copy_seconds'] / 1e9:.1f}",
                f"**{cost['seconds'] / cost['copy_seconds']:.2f}**",
            )
            for cost in pool["scoring"]
        ]
        tables.append(
            Table(
                "Scoring alone, beside the memory's own speed, in seconds",
                SCORING_COLUMNS,
                tuple(scoring),
            )
        )
    return tables


def classic_tables(part: Part) -> list[Table]:
    """Return one table a shape: everylabel beside the classic hybrid at the largest pool."""
    tables = []
    for pool in part["pools"]:
        batch = part["compared"]
        ours = max(
            (cost for cost in pool["rounds"] if cost["batch"] == batch), key=lambda cost: cost["crops"]
        )
        score = ours["phases"]["train"] + ours["phases"]["score"]
        select = ours["phases"]["select"]
        rows = [("everylabel", f"{score:.2f}", f"{select:.2f}", f"{score + select:.2f}", "1", "1", "1")]
        for choice in pool["classic"]:
            together = choice["score_seconds"] + choice["select_seconds"]
            rows.append(
                (
                    choice["name"],
                    f"{choice['score_seconds']:.2f}",
                    f"{choice['select_seconds']:.2f}",
                    f"{together:.2f}",
                    f"**{choice['select_seconds'] / select:.1f}**",
                    f"**{together / (score + select):.1f}**",
                    f"{together / ours['seconds']:.1f}",
                )
            )
        columns = ("train and score", "choose", "together", "ratio, choosing", "ratio, together")
        tables.append(
            Table(
                f"Choosing {batch} of {ours['crops']:,} crops, embeddings of {_shape(pool)}, in seconds",
                ("", *columns, "together / everylabel's whole round"),
                tuple(rows),
            )
        )
    return tables


def ratio_tables(part: Part) -> list[Table]:
    """Return every ratio by its name, for a terminal."""
    return [
        Table(
            f"Ratios, embeddings of {_shape(pool)}",
            ("", "ratio"),
            tuple((name, f"{value:.2f}") for name, value in pool["ratios"].items()),
        )
        for pool in part["pools"]
    ]


def strategy_tables(part: Part) -> list[Table]:
    """Return the seconds to choose by strategy and pool, and the ratio to everylabel's on the same pool."""
    pools = sorted({choice["crops"] for choice in part["choosing"]})
    at = {(choice["name"], choice["crops"]): choice for choice in part["choosing"]}
    rows = []
    for name in dict.fromkeys(choice["name"] for choice in part["choosing"]):
        cells, stopped = [], False
        for n in pools:
            choice = at.get((name, n))
            if choice is None:
                cells.append("" if stopped else "not run")
            elif choice["select_seconds"] is None:
                stopped = True
                cells.append(why_not(choice["note"]))
            else:
                ours = at.get(("auto", n), {}).get("select_seconds")
                ratio = f" ({choice['select_seconds'] / ours:,.1f} x)" if ours and name != "auto" else ""
                cells.append(f"{choice['select_seconds']:.2g}{ratio}")
        rows.append((_shown(name), *cells))
    minutes = f"{part['seconds_given']:.0f} s and {part['bytes_given'] >> 30} GiB for each"
    return [
        Table(
            f"Seconds to choose {part['batch']} crops, and how many times as long as everylabel; {minutes}",
            ("", *(f"{n:,}" for n in pools)),
            tuple(rows),
        )
    ]


def why_not(note: str) -> str:
    """Return in a few words why a strategy did not choose."""
    if note.startswith("more than"):
        return note
    return "out of memory" if "Memory" in note or "allocate" in note else f"failed: {note.partition(':')[0]}"


def request_tables(part: Part, round_seconds: tuple[str, float] | None) -> list[Table]:
    """Return tasks a second through label-studio-ml, and how long ranking a pool with it would take.

    `round_seconds`: the name of everylabel's round on as many crops, and its seconds.
    """
    rows = []
    for path in part["paths"]:
        seconds = EXTRAPOLATED / path["tasks_per_second"]
        ratio = f"{seconds / round_seconds[1]:,.0f}" if round_seconds else ""
        rows.append(
            (path["name"], str(path["page"]), f"{path['tasks_per_second']:,.0f}", _duration(seconds), ratio)
        )
    if round_seconds:
        rows.append((f"everylabel: {round_seconds[0]}", "", "", f"{round_seconds[1]:.2f} s, measured", "1"))
    return [
        Table(
            f"A backend written with label-studio-ml {part['version']}, asked over HTTP on this machine",
            (
                "predict",
                "tasks a request",
                "tasks a second",
                f"{EXTRAPOLATED:,} tasks, extrapolated",
                "/ everylabel's round",
            ),
            tuple(rows),
        )
    ]


def request_ratios(part: Part, round_seconds: tuple[str, float] | None) -> dict[str, float]:
    """Return how many of everylabel's rounds fit into the time of ranking a pool by requests; extrapolated."""
    if round_seconds is None:
        return {}
    return {
        f"{path['name']}, {path['page']} a request, {EXTRAPOLATED:,} tasks extrapolated / {round_seconds[0]}": (
            EXTRAPOLATED / path["tasks_per_second"] / round_seconds[1]
        )
        for path in part["paths"]
    }


def embedding_tables(part: Part) -> list[Table]:
    """Return crops a second: medians, and the range over the runs."""
    rows = []
    names = ("encoder, batch after batch", "encoder, several at a time", "pipeline from JPEG files")
    for name, rates, spent in zip(names, ("bare", "at_most", "pipeline"), part["processor_ms"], strict=True):
        between = f"{min(part[rates]):,.0f} … {max(part[rates]):,.0f}"
        rows.append((name, f"{statistics.median(part[rates]):,.0f}", between, f"{spent:.1f}"))
    ratios_by_name = {
        "pipeline / batch after batch": part["ratios"],
        "pipeline / several at a time": part["ratios_at_most"],
    }
    if forward := part.get("forward"):
        between = f"{min(forward):,.0f} … {max(forward):,.0f}"
        name = f"bare network on the card, batches of {part['batch_size']:,}"
        rows.insert(0, (name, f"{statistics.median(forward):,.0f}", between, ""))
        ratios_by_name["pipeline / bare network"] = part["ratios_forward"]
    for name, ratios in ratios_by_name.items():
        rows.append(
            (name, f"**{statistics.median(ratios):.2f}**", f"{min(ratios):.2f} … {max(ratios):.2f}", "")
        )
    return [
        Table(
            f"{part['encoder']} on {part['device_name']}, {part['crops']:,} crops of {part['picture']} pixels, "
            f"{len(part['bare'])} runs",
            ("", "crops a second", "over the runs", "processor ms a crop"),
            tuple(rows),
        )
    ]


def largest_round(part: Part) -> tuple[str, float] | None:
    """Return the name and the seconds of the round that ranking by requests is compared with.

    It has a batch of 50, the widest embeddings, and as many crops as the ranking is extrapolated to.
    """
    found = [
        (pool["dim"], cost["seconds"], pool)
        for pool in part["pools"]
        for cost in pool["rounds"]
        if cost["crops"] == EXTRAPOLATED and cost["batch"] == 50
    ]
    if not found:
        return None
    _, seconds, pool = max(found, key=lambda one: one[0])
    return f"a round of 50, embeddings of {_shape(pool)}", seconds


def _shape(pool: Mapping[str, Any]) -> str:
    return str(Shape(pool["name"], pool["dim"], pool["standardized"]))


def _shown(name: str) -> str:
    if name == "auto":
        return "everylabel's `auto`"
    return name if name.startswith("classic") else f"scikit-activeml {name}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 1000 else f"{seconds:.0f} s"
