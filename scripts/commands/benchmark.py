"""`everylabel benchmark`: what strategies teach, and what a round costs, beside what one would use instead."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from everylabel.backend.images.decode import ImageError
from everylabel.model import encoders, query
from everylabel.scripts.commands.simulate import DEFAULT_CACHE, Pool, as_json, points, prepare, table, tasks
from everylabel.scripts.console import console, fail, progress
from everylabel.scripts.docs.generated_text import insert
from everylabel.scripts.replay.datasets import DatasetError
from everylabel.scripts.replay.learning_curves import BASELINE, Interval, Summary, interval, summarise
from everylabel.scripts.replay.learning_plot import PlotError, plot, require_matplotlib
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
"""Looked at by nobody until the rule was fixed."""
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


def benchmark(
    learning: Annotated[
        bool, typer.Option("--learning", help="Compare query strategies; writes learning.json and plots.")
    ] = False,
    pool: Annotated[
        bool,
        typer.Option(
            "--pool", help="Measure a round by the size of the pool, and what one would use instead."
        ),
    ] = False,
    sizes: Annotated[str, typer.Option(help="With --pool: crops, with commas.")] = "100000,300000,1000000",
    dim: Annotated[
        str,
        typer.Option(
            help="With --pool: numbers an embedding has, or encoders by name, with commas; the first at every size, "
            "the others at the largest."
        ),
    ] = f"384,1280,{encoders.DEFAULT}",
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="With --pool or --embed: write the results of this run here."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Runs of each strategy on each data set.")] = 20,
    budget: Annotated[int, typer.Option(min=10, help="Labels to spend in a run.")] = 100,
    peers: Annotated[
        bool, typer.Option(help="Run scikit-activeml's strategies too; with --pool, label-studio-ml as well.")
    ] = True,
    strategy: Annotated[str, typer.Option(help="Only these strategies beside auto and random.")] = "",
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder whose learning.md or performance.md is written, with results and plots: docs with --learning, "
            "nowhere with --pool and --embed unless named."
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Append every run to this file, and repeat none that it holds.")
    ] = None,
    cache: Annotated[Path, typer.Option(help="Where embeddings are kept.")] = DEFAULT_CACHE,
    embed: Annotated[
        bool, typer.Option("--embed", help="Measure embedding from JPEG files, beside the encoder alone.")
    ] = False,
    encoder: Annotated[str, typer.Option(help="--embed: which encoder.")] = encoders.DEFAULT,
    device: Annotated[str, typer.Option(help="--embed: auto, cpu, cuda or cuda:<number>.")] = "auto",
    images: Annotated[
        Path | None, typer.Option(help="--embed: a folder of JPEG files in the place of made ones.")
    ] = None,
    crops: Annotated[int, typer.Option(min=64, help="--embed: crops in a run.")] = 2000,
    pixels: Annotated[int, typer.Option(min=32, help="--embed: width and height of the files made.")] = 256,
) -> None:
    """Measure strategies on named data sets, embedding, or the cost of a round, beside what one would use instead."""
    if learning == (pool or embed):
        fail("Say what to measure: everylabel benchmark --learning, or --pool or --embed or both")
    if pool or embed:
        from everylabel.scripts.benchmarks import measure_performance  # noqa: PLC0415 - takes long to load

        embedding = measure_performance.Embedding(encoder, device, images, crops, pixels)
        try:
            measure_performance.run(
                measure_performance.Rounds.of(sizes, dim, peers=peers) if pool else None,
                embedding if embed else None,
                out=out,
                json_file=json_file,
            )
        except (ValueError, ImageError, RuntimeError) as error:
            fail(error)
        return
    try:
        require_matplotlib()
        chosen = _strategies(strategy, peers)
        curves = _measure(chosen, seeds, budget, jobs or os.cpu_count() or 1, keep, cache)
    except (DatasetError, PlotError, ValueError) as error:
        fail(error)
    summaries = summarise(curves, encoders.DEFAULT)
    console.print(table(summaries))
    _write(summaries, curves, out or Path("docs"))


def mean_gain(summaries: Sequence[Summary], strategy: str) -> tuple[float, float]:
    """The mean gain of a strategy over data sets, and its gain on the worst."""
    gains = [summary.gain.mean for summary in summaries if summary.strategy == strategy]
    return float(np.mean(gains)), min(gains)


def paired(curves: Sequence[Curve], data: str, one: str, other: str) -> Interval:
    """AULC of one strategy minus another's on the same seeds."""
    by_seed = {(c.strategy, c.seed): float(np.mean(c.accuracy)) for c in curves if c.data == data}
    seeds = sorted(seed for name, seed in by_seed if name == one)
    return interval(np.array([by_seed[one, seed] - by_seed[other, seed] for seed in seeds]))


def _strategies(only: str, peers: bool) -> list[str]:
    from everylabel.scripts.benchmarks.peers import PEERS, PeerStrategy  # noqa: PLC0415 - takes long to load

    if only:
        others = [name.strip() for name in only.split(",")]
    else:
        others = [*OWN, *(PEER_PREFIX + name for name in PEERS_RUN if peers and name in PEERS)]
    if any(name.startswith(PEER_PREFIX) for name in others):
        PeerStrategy(PEERS_RUN[0])  # says how to install it, before anything runs
    return ["auto", BASELINE, *(name for name in others if name not in ("auto", BASELINE))]


def _measure(
    strategies: Sequence[str], seeds: int, budget: int, jobs: int, keep: Path | None, cache: Path
) -> list[Curve]:
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


def _write(summaries: Sequence[Summary], curves: Sequence[Curve], out: Path) -> None:
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
    """The table of gains as a page: one line a strategy, one column a data set."""
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
