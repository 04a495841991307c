"""Plots of what a round and a choice cost by the size of the pool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everylabel.scripts.benchmarks.performance_tables import PHASES, why_not
from everylabel.scripts.replay.learning_plot import require_matplotlib

Part = Mapping[str, Any]
HYBRIDS = ("0.55", "0.1")
PEERS = tuple(f"C{number}" for number in (0, 1, 2, 4, 5, 6, 7, 8, 9))
"""Without red, which is our own."""
PHASE_NAMES = ("train", "score", "choose", "pseudo-labels", "audit", "the rest")


def plot_rounds(part: Part, path: Path) -> None:
    """Plot seconds by crops, one line a batch size, beside scoring and a plain copy, and phases at the largest pool."""
    plt = _pyplot()
    figure, (lines, bars) = plt.subplots(1, 2, figsize=(11, 4.4))
    first = part["pools"][0]
    for number, batch in enumerate(sorted({cost["batch"] for cost in first["rounds"]})):
        costs = [cost for cost in first["rounds"] if cost["batch"] == batch]
        lines.plot(
            *_points(costs, "seconds"), color=f"C{number}", marker="o", label=f"a round, batch of {batch}"
        )
    for name, label, style in (
        ("seconds", "scoring alone", "-."),
        ("copy_seconds", "a plain copy of the file", "--"),
    ):
        shade = "0.25" if name == "seconds" else "0.55"
        lines.plot(*_points(first["scoring"], name), color=shade, linestyle=style, marker=".", label=label)
    lines.set(
        xscale="log",
        yscale="log",
        xlabel="crops",
        ylabel="seconds",
        title=f"embeddings of {first['dim']:,} numbers",
    )
    _stack(bars, part)
    _name_sizes(lines, sorted({cost["crops"] for cost in first["rounds"]}))
    for axis in (lines, bars):
        axis.grid(alpha=0.25, which="both")
        axis.set_axisbelow(True)
        axis.legend(fontsize="small")
    _save(figure, path)


def _stack(axis: Any, part: Part) -> None:
    """Draw one bar a shape of embeddings and batch size, at the largest pool, with the plain copy across it."""
    names: list[str] = []
    for pool in part["pools"]:
        large = max(cost["crops"] for cost in pool["rounds"])
        copy = next(cost["copy_seconds"] for cost in pool["scoring"] if cost["crops"] == large)
        for cost in sorted(pool["rounds"], key=lambda cost: int(cost["batch"])):
            if cost["crops"] != large:
                continue
            place, bottom = len(names), 0.0
            names.append(f"{cost['batch']}\n{pool['dim']:,}" if cost["batch"] == 50 else str(cost["batch"]))
            phases = [cost["phases"].get(phase, 0.0) for phase in PHASES]
            rest = max(0.0, cost["seconds"] - sum(phases))
            for number, seconds in enumerate([*phases, rest]):
                colour = f"C{number}" if number < len(PHASES) else "0.8"
                label = PHASE_NAMES[number] if place == 0 else None
                axis.bar(place, seconds, bottom=bottom, color=colour, label=label)
                bottom += seconds
            marked = {"label": "a plain copy"} if place == 0 else {}
            axis.plot([place - 0.4, place + 0.4], [copy, copy], color="0.1", linestyle="--", **marked)
    axis.set_xticks(range(len(names)), names)
    axis.set(xlabel="batch, and numbers an embedding has", ylabel="seconds", title=f"{large:,} crops")


def plot_choosing(part: Part, path: Path) -> None:
    """Plot seconds to choose by strategy and pool; those over their time or memory are crosses at the top."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(9, 5.6))
    names = list(dict.fromkeys(choice["name"] for choice in part["choosing"]))
    given = part["seconds_given"]
    rows = {"time": 2.0 * given, "memory": 5.0 * given}
    for number, name in enumerate(names):
        mine = [choice for choice in part["choosing"] if choice["name"] == name]
        done = [choice for choice in mine if choice["select_seconds"] is not None]
        own = name == "auto"
        hybrid = name.startswith("classic")
        look = {
            "color": "C3" if own else HYBRIDS[number % 2] if hybrid else PEERS[number % len(PEERS)],
            "marker": "o" if own else "D" if hybrid else "osv^P*X<>p"[number % 10],
            "linewidth": 2.6 if own else 1.3,
            "linestyle": "--" if hybrid else ":" if number > len(PEERS) + 2 else "-",
            "markersize": 5,
        }
        label = "everylabel's auto" if own else name
        axis.plot(*_points(done, "select_seconds"), label=label, **look)
        for choice in mine:
            if choice["select_seconds"] is None:
                kind = "memory" if why_not(choice["note"]) == "out of memory" else "time"
                aside = choice["crops"] * 1.1 ** (number - len(names) / 2)
                axis.plot(
                    aside, rows[kind], **{**look, "linestyle": "", "fillstyle": "none", "markersize": 7}
                )
    sizes = sorted({choice["crops"] for choice in part["choosing"]})
    axis.axhline(given, color="0.5", linewidth=0.8)
    axis.set(
        xscale="log",
        yscale="log",
        xlim=(sizes[0] / 1.6, sizes[-1] * 2.2),
        ylim=(None, 10 * given),
        xlabel="crops in the pool",
        ylabel=f"seconds to choose {part['batch']}",
    )
    _name_sizes(axis, sizes)
    for kind, why in (
        ("time", f"more than {given:.0f} s"),
        ("memory", f"more than {part['bytes_given'] >> 30} GiB"),
    ):
        axis.text(sizes[0] / 1.5, rows[kind], why, va="center", fontsize="small", color="0.25")
    axis.grid(alpha=0.25)
    figure.legend(loc="outside right upper", fontsize="small")
    _save(figure, path)


def _name_sizes(axis: Any, sizes: list[int]) -> None:
    axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axis.minorticks_off()


def _points(costs: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    costs = sorted(costs, key=lambda cost: cost["crops"])
    return [cost["crops"] for cost in costs], [cost[name] for cost in costs]


def _pyplot() -> Any:
    require_matplotlib()
    import matplotlib as mpl  # noqa: PLC0415 - an optional extra

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def _save(figure: Any, path: Path) -> None:
    figure.set_layout_engine("constrained")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    _pyplot().close(figure)
