"""Compare query strategies on named data sets: `everylabel benchmark --learning`.

Runs are kept in a file as they finish, so that an interrupted comparison goes on where it stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from everylabel.model import encoders, query
from everylabel.scripts.console import progress
from everylabel.scripts.generated_text import insert
from everylabel.scripts.replay.learning_curves import Interval, Summary, interval
from everylabel.scripts.replay.learning_plot import plot
from everylabel.scripts.replay.learning_tables import as_json, points
from everylabel.scripts.replay.names import BASELINE
from everylabel.scripts.replay.pools import Pool, prepare, tasks
from everylabel.scripts.replay.replay import PEER_PREFIX, Audit, Curve, Task, run


@dataclass(frozen=True)
class Setting:
    """A data set of the benchmark."""

    source: str
    limit: int | None = None
    keep_every: tuple[str, ...] = ()
    hold_out: float = 0.0
    """Where one class is rare, accuracy is counted on crops held out: see `everylabel.scripts.replay.replay.Curve.accuracy`."""


DEVELOPMENT: Final = (
    Setting("digits", 1000),
    Setting("digits:3,8"),
    Setting("solar-cells", 1000),
    Setting("fashion:shirt,coat", 1000),
    Setting("fashion", 1000),
    Setting("digits:3,8", None, ("8=11",)),
    Setting("solar-cells", None, ("defective=10",), hold_out=0.5),
    Setting("fashion:shirt,coat", 2000, ("coat=12",), hold_out=0.5),
)


HELD_BACK: Final = (
    Setting("animals", 1000),
    Setting("animals:cat,dog", 1000),
    Setting("fashion:pullover,dress,sneaker,bag", 1000),
)
"""Not used until the rule was fixed."""


OWN: Final = tuple(name for name in query.names() if name not in ("auto", BASELINE))


PEERS_RUN: Final = (
    "UncertaintySampling",
    "CoreSet",
    "TypiClust",
    "ProbCover",
    "Badge",
    "DropQuery",
    "MaxHerding",
)


def mean_gain(summaries: Sequence[Summary], strategy: str) -> tuple[float, float]:
    """Return a strategy's mean gain over data sets, and its gain on the worst one."""
    gains = [summary.gain.mean for summary in summaries if summary.strategy == strategy]
    return float(np.mean(gains)), min(gains)


def paired(curves: Sequence[Curve], data: str, one: str, other: str) -> Interval:
    """Return the AULC of one strategy minus another's on the same seeds."""
    by_seed = {(c.strategy, c.seed): float(np.mean(c.accuracy)) for c in curves if c.data == data}
    seeds = sorted(seed for name, seed in by_seed if name == one)
    return interval(np.array([by_seed[one, seed] - by_seed[other, seed] for seed in seeds]))


def strategies_to_compare(only: str, *, peers: bool) -> list[str]:
    """Return the strategies to run, `auto` and `random` first.

    Args:
        only: names with commas; empty for all of ours.
        peers: adds those of scikit-activeml.

    Raises:
        ValueError: scikit-activeml is needed and missing; the message says how to install it.
    """
    from everylabel.scripts.replay.peers import PEERS, PeerStrategy  # noqa: PLC0415 - takes long to load

    if only:
        others = [name.strip() for name in only.split(",")]
    else:
        others = [*OWN, *(PEER_PREFIX + name for name in PEERS_RUN if peers and name in PEERS)]
    if any(name.startswith(PEER_PREFIX) for name in others):
        PeerStrategy(PEERS_RUN[0])  # says how to install it, before anything runs
    return ["auto", BASELINE, *(name for name in others if name not in ("auto", BASELINE))]


def run_comparison(
    strategies: Sequence[str], seeds: int, budget: int, jobs: int, keep: Path | None, cache: Path
) -> list[Curve]:
    """Replay every data set with every strategy and seed.

    Args:
        strategies: their names.
        seeds: runs of each strategy on each data set.
        budget: labels to spend in a run.
        jobs: processes to run in.
        keep: a file of finished runs to read and to append to, or None.
        cache: a folder for embeddings.

    Returns:
        One curve a run, grouped by data set and seed.
    """
    with progress() as report:
        wanted: list[Task] = []
        for setting in (*DEVELOPMENT, *HELD_BACK):
            pool: Pool = prepare(
                setting.source,
                encoders.DEFAULT,
                cache,
                limit=setting.limit,
                keep_every=setting.keep_every,
                report=report,
            )
            base = Task(budget=budget, hold_out=setting.hold_out)
            wanted += tasks(base, [pool], strategies, range(seeds))
        # All of a seed before the next: an interrupted run has whole seeds to show for its time.
        wanted.sort(key=lambda task: task.seed)
        found = {key: curve for key, curve in _kept(keep).items() if key in {_key(task) for task in wanted}}
        todo = [task for task in wanted if _key(task) not in found]
        report("Replaying", len(found), len(wanted))
        for curve in run(todo, min(jobs, max(len(todo), 1))):
            found[curve.data, curve.strategy, curve.seed] = curve
            report("Replaying", len(found), len(wanted))
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(curve)) + "\n")
    in_order = sorted(
        wanted, key=lambda task: (list(dict.fromkeys(t.data for t in wanted)).index(task.data), task.seed)
    )
    return [found[_key(task)] for task in in_order]


def _key(task: Task) -> tuple[str, str, int]:
    return task.data, task.strategy, task.seed


def _kept(path: Path | None) -> dict[tuple[str, str, int], Curve]:
    if path is None or not path.exists():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        audit = Audit(**entry.pop("audit")) if entry["audit"] else entry.pop("audit")
        lists: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()
        }
        curve = Curve(**lists, audit=audit)
        found[curve.data, curve.strategy, curve.seed] = curve
    return found


def write_page(summaries: Sequence[Summary], curves: Sequence[Curve], out: Path) -> None:
    """Write learning.json, learning.png and the tables of learning.md into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    held_back = {_name(setting) for setting in HELD_BACK}
    content = as_json(summaries, sys.argv[1:])
    content["held_back"] = sorted(held_back)
    content["auto_minus"] = [
        {"data": data, "strategy": summary.strategy, **asdict(paired(curves, data, "auto", summary.strategy))}
        for data in dict.fromkeys(summary.data for summary in summaries)
        for summary in summaries
        if summary.data == data and summary.strategy not in ("auto", BASELINE)
    ]
    (out / "learning.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    best = sorted(
        {summary.strategy for summary in summaries} - {"auto", BASELINE},
        key=lambda name: -mean_gain(summaries, name)[0],
    )
    shown = ["auto", BASELINE, *best[:3]]
    plot([summary for summary in summaries if summary.strategy in shown], out / "learning.png")
    page = out / "learning.md"
    text = page.read_text(encoding="utf-8") if page.exists() else "# Learning\n"
    page.write_text(insert(text, "--learning", _markdown(summaries, best, held_back)), encoding="utf-8")


def _markdown(summaries: Sequence[Summary], best: Sequence[str], held_back: set[str]) -> str:
    """Return the table of gains in Markdown: one row a strategy, one column a data set."""
    data = list(dict.fromkeys(summary.data for summary in summaries))
    gains = {(summary.data, summary.strategy): summary for summary in summaries}
    names = [f"{name}{' *' if name in held_back else ''}" for name in data]
    lines = [
        f"Mean gain in points of balanced accuracy over random, rounds 5 … {int(summaries[0].n_labels[-1])}, "
        f"{summaries[0].seeds} seeds. * held back until the rule was fixed.",
        "",
        "| strategy | mean | worst | " + " | ".join(names) + " |",
        "|---|" + "---|" * (len(data) + 2),
    ]
    for name in ["auto", *best]:
        mean, worst = mean_gain(summaries, name)
        cells = [f"{gains[source, name].gain.mean * 100:+.1f}" for source in data]
        shown = name.replace(PEER_PREFIX, "scikit-activeml ")
        lines.append(f"| {shown} | {mean * 100:+.1f} | {worst * 100:+.1f} | " + " | ".join(cells) + " |")
    lines += ["", "`auto` with its 95 % interval, and its gain at single numbers of labels:", ""]
    lines += [
        "| data | random AULC | gain | at 5 | at 10 | at 25 | at 50 | at 100 | labels saved | rare in 25, random's |"
    ]
    lines += ["|---|" + "---|" * 9]
    for source in data:
        mine, random = gains[source, "auto"], gains[source, BASELINE]
        at = [f"{mine.gain_at[n].mean * 100:+.1f}" if n in mine.gain_at else "" for n in (5, 10, 25, 50, 100)]
        lines.append(
            f"| {source} | {random.aulc * 100:.1f} | {points(mine)} | "
            + " | ".join(at)
            + f" | {mine.labels_saved:.0f} | {mine.rare_at_25:.1f}, {random.rare_at_25:.1f} |"
        )
    return "\n".join(lines) + "\n"


def _name(setting: Setting) -> str:
    limited = f"#{setting.limit}" if setting.limit else ""
    return "/".join([setting.source + limited, *setting.keep_every])
