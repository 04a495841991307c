"""A plot of learning curves: the mean over seeds with its 95 % band, random in grey."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from everylabel.scripts.replay.learning_curves import Summary
from everylabel.scripts.replay.names import BASELINE


class PlotError(ValueError):
    """The curves cannot be plotted; the message says what to do."""


def require_matplotlib() -> None:
    """Check for matplotlib: better before the runs than after them.

    Raises:
        PlotError: it is missing; the message says how to install it.
    """
    if find_spec("matplotlib") is None:
        raise PlotError(
            "Plots need matplotlib, which is not installed: "
            f"{sys.executable} -m pip install 'everylabel[simulate]'"
        )


def plot(summaries: Sequence[Summary], path: Path) -> None:
    """Plot one panel a data set into a .png, .svg or .pdf."""
    require_matplotlib()
    import matplotlib as mpl  # noqa: PLC0415 - an optional extra

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "everylabel"  # the same results draw the same file
    panels = list(dict.fromkeys(summary.data for summary in summaries))
    strategies = list(dict.fromkeys(summary.strategy for summary in summaries))
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4.6 * columns, 3.6 * lines), squeeze=False)
    for axis, data in zip(axes.flat, panels, strict=False):
        for summary in (summary for summary in summaries if summary.data == data):
            is_baseline = summary.strategy == BASELINE
            colour = "0.45" if is_baseline else f"C{strategies.index(summary.strategy) % 10}"
            axis.plot(
                summary.n_labels,
                [point.mean for point in summary.curve],
                color=colour,
                linestyle="--" if is_baseline else "-",
                linewidth=2.4 if summary.strategy == "auto" else 1.2,
                label=summary.strategy,
            )
            low, high = ([getattr(point, side) for point in summary.curve] for side in ("low", "high"))
            axis.fill_between(summary.n_labels, low, high, color=colour, alpha=0.12, linewidth=0)
        axis.set(title=data, xlabel="labels", ylabel="balanced accuracy")
        axis.grid(alpha=0.25)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    handles = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(6, len(handles)))
    figure.set_layout_engine("constrained")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
