"""Run `everylabel benchmark --pool` and `--embed` part by part, and show each when it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everylabel.scripts.benchmarks import (
    measure_choosing,
    measure_embedding,
    measure_request_path,
    measure_round,
    performance_page,
)
from everylabel.scripts.benchmarks import performance_tables as tables
from everylabel.scripts.benchmarks.made_embeddings import Shape, shape
from everylabel.scripts.console import console, progress
from everylabel.scripts.replay.learning_plot import require_matplotlib
from everylabel.scripts.replay.peers import HOW_TO_INSTALL, peers_work

COMMAND = "everylabel benchmark"


@dataclass(frozen=True)
class Rounds:
    """The plan of `--pool`: sizes of pools, shapes of embeddings, and whether to run other packages too."""

    sizes: tuple[int, ...]
    shapes: tuple[Shape, ...]
    peers: bool

    @classmethod
    def of(cls, sizes: str, dim: str, *, peers: bool) -> Rounds:
        """Parse the options as they are written.

        Raises:
            ValueError: sizes that are not numbers of 1000 or more, or a dim that is neither a number nor an encoder.
        """
        wrong = f"--sizes wants numbers of crops with commas, of 1000 or more: got {sizes!r}"
        try:
            wanted = tuple(sorted({int(size) for size in sizes.split(",")}))
        except ValueError as error:
            raise ValueError(wrong) from error
        if wanted[0] < 1000:
            raise ValueError(wrong)
        return cls(wanted, tuple(shape(name.strip()) for name in dim.split(",")), peers)

    @property
    def command(self) -> str:
        """The command that repeats this measurement."""
        sizes, dim = ",".join(map(str, self.sizes)), ",".join(one.name for one in self.shapes)
        return f"{COMMAND} --pool --sizes {sizes} --dim {dim}"


@dataclass(frozen=True)
class Embedding:
    """The plan of `--embed`: an encoder on a device, and its crops."""

    encoder: str
    device: str
    images: Path | None
    crops: int
    pixels: int

    @property
    def command(self) -> str:
        """The command that repeats this measurement, without the name of a folder of images."""
        made = f"--pixels {self.pixels}" if self.images is None else "--images FOLDER"
        return (
            f"{COMMAND} --embed --encoder {self.encoder} --device {self.device} --crops {self.crops} {made}"
        )


def run(
    rounds: Rounds | None, embedding: Embedding | None, *, out: Path | None, json_file: Path | None
) -> dict[str, dict[str, Any]]:
    """Measure, show, and write the results into the given folder and file.

    A part is written before the next one begins, so that a failure loses nothing measured before.

    Returns:
        The measured parts by name.

    Raises:
        ValueError: a part cannot be measured, or its results cannot be written.
        RuntimeError: a backend of label-studio-ml fails.
    """
    if out is not None:
        require_matplotlib()
    parts: dict[str, dict[str, Any]] = {}
    for name, found in _measured(rounds, embedding):
        parts[name] = found
        for table in _tables(name, parts):
            console.print(table.shown())
        if json_file is not None:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
        if out is not None:
            performance_page.write({name: found}, out)
    return parts


def _measured(rounds: Rounds | None, embedding: Embedding | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if rounds is not None:
        largest, first = max(rounds.sizes), rounds.shapes[0]
        with progress() as report:
            found = measure_round.measure_rounds(rounds.sizes, rounds.shapes, report)
        beside = tables.largest_round(found)
        yield "rounds", {"command": rounds.command, **found}
        if rounds.peers and not peers_work():
            console.print(f"Not measured: {HOW_TO_INSTALL}")
        elif rounds.peers:
            with progress() as report:
                found = measure_choosing.measure_choosing(largest, first, report)
            yield "strategies", {"command": rounds.command, **found}
        if rounds.peers and not measure_request_path.installed():
            console.print(f"Not measured: {measure_request_path.HOW_TO_INSTALL}")
        elif rounds.peers:
            with progress() as report:
                found = measure_request_path.measure(report)
            ratios = tables.request_ratios(found, beside)
            yield "requests", {"command": rounds.command, **found, "ratios": ratios}
    if embedding is not None:
        with progress() as report:
            found = measure_embedding.as_json(
                embedding.encoder,
                embedding.device,
                crops=embedding.crops,
                pixels=embedding.pixels,
                folder=embedding.images,
                report=report,
            )
        yield "embedding", {"command": embedding.command, **found}


def _tables(name: str, parts: dict[str, dict[str, Any]]) -> list[tables.Table]:
    part = parts[name]
    if name == "rounds":
        return [*tables.round_tables(part), *tables.classic_tables(part), *tables.ratio_tables(part)]
    if name == "strategies":
        return tables.strategy_tables(part)
    if name == "requests":
        return tables.request_tables(part, tables.largest_round(parts["rounds"]))
    return tables.embedding_tables(part)
