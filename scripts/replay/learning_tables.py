"""Learning curves as tables for a terminal, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.markup import escape
from rich.table import Table

from everylabel.scripts.replay.learning_curves import Summary
from everylabel.scripts.replay.names import BASELINE
from everylabel.scripts.replay.replay import PEER_PREFIX


def table(summaries: Sequence[Summary]) -> Table:
    """Return a table for a terminal: accuracy in percent, and points gained over random."""
    shown = Table(
        title="Balanced accuracy in %, and points gained over random",
        caption="AULC: mean over all rounds. Gain: AULC minus random's on the same seeds, 95 % interval. "
        "Saved: labels random needs more of for the same accuracy.",
    )
    marks = list(dict.fromkeys(n for summary in summaries for n in summary.accuracy))
    for column in ("data", "strategy", *(str(n) for n in sorted(marks)), "AULC", "gain", "saved"):
        is_name = column in ("data", "strategy")
        shown.add_column(
            column,
            justify="left" if is_name else "right",
            overflow="fold",
            no_wrap=not is_name and column != "gain",
            min_width=9 if is_name else None,
        )
    before = None
    for summary in summaries:
        if before not in (None, summary.data):
            shown.add_section()
        gain = "" if summary.strategy == BASELINE else points(summary)
        saved = "" if summary.strategy == BASELINE else f"{summary.labels_saved:.0f}"
        shown.add_row(
            escape(summary.data) if summary.data != before else "",
            summary.strategy.removeprefix(PEER_PREFIX),
            *(f"{summary.accuracy[n]:.1%}"[:-1] if n in summary.accuracy else "" for n in sorted(marks)),
            f"{summary.aulc * 100:.1f}",
            gain,
            saved,
        )
        before = summary.data
    return shown


def audit_table(summaries: Sequence[Summary]) -> Table:
    """Return a table of how well the label audit found the wrong answers, separate so that both fit 80 columns."""
    shown = Table(
        title="Label audit",
        caption="AUROC: how well it ranks wrong answers before right ones. Precision: the share of wrong answers "
        "among those it lists.",
    )
    for column in ("data", "strategy"):
        shown.add_column(column, overflow="fold", min_width=9)
    for column in ("AUROC", "precision"):
        shown.add_column(column, justify="right", no_wrap=True)
    for summary in summaries:
        found = (summary.audit_auroc, summary.audit_precision)
        shown.add_row(
            escape(summary.data),
            summary.strategy.removeprefix(PEER_PREFIX),
            *("" if math.isnan(value) else f"{value:.2f}" for value in found),
        )
    return shown


def points(summary: Summary) -> str:
    """Return the gain in points: `+4.1 (+3.2 … +5.0)`."""
    gain = summary.gain
    if math.isnan(gain.low):
        return f"{gain.mean * 100:+.1f}"
    return f"{gain.mean * 100:+.1f} ({gain.low * 100:+.1f} … {gain.high * 100:+.1f})"


def as_json(summaries: Sequence[Summary], arguments: Sequence[str]) -> dict[str, Any]:
    """Return what `--json` writes: `results` in one fixed form, and `details` with all other measurements."""
    return {
        "command": _command(arguments),
        "unit": "accuracy, aulc and gain are shares from 0 to 1; gain is aulc minus random's, paired by seed",
        "results": [summary.result() for summary in summaries],
        "details": [summary.details() for summary in summaries],
    }


def _command(arguments: Sequence[str]) -> str:
    """Return the command for anyone to repeat, without paths of this machine and the number of processes."""
    kept = ["everylabel"]
    skip = False
    for argument in arguments:
        local = argument.partition("=")[0] in ("--cache", "--keep", "--out", "--json", "--plot", "--jobs")
        if not skip and not local:
            kept.append(argument)
        skip = local and "=" not in argument
    return " ".join(kept)


def write_json(
    summaries: Sequence[Summary],
    path: Path,
    arguments: Sequence[str],
    more: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write `as_json`, and what else was measured, to a file in lines that `git diff` can show."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**as_json(summaries, arguments), **more}, indent=1) + "\n", encoding="utf-8")
