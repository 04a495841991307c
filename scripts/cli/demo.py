"""Options of `everylabel demo`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from everylabel.backend.label_studio.versions import NEWEST
from everylabel.scripts.replay.names import IMAGE_DATA_SETS


class Annotator(str, Enum):
    """The annotator of the demo: a person, or a simulated one."""

    human = "human"
    simulated = "simulated"


def demo(
    data: Annotated[
        str, typer.Option(help=f"Crops to label: {', '.join(IMAGE_DATA_SETS)}.")
    ] = IMAGE_DATA_SETS[0],
    images: Annotated[
        Path | None, typer.Option(help="A folder of your own crops instead.", file_okay=False)
    ] = None,
    classes: Annotated[
        str, typer.Option(help="Their classes, as in `cat,dog`; or one subfolder a class.")
    ] = "",
    annotator: Annotated[Annotator, typer.Option(help="Who labels.")] = Annotator.human,
    labels: Annotated[int, typer.Option(min=1, help="How many labels the simulated annotator gives.")] = 60,
    report: Annotated[Path | None, typer.Option(help="Where its JSON report goes.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew: forget the labels of earlier runs.")
    ] = False,
    directory: Annotated[Path, typer.Option(help="Where the demo keeps everything.")] = Path(".everylabel"),
    port: Annotated[int, typer.Option(help="Label Studio's port; a free one if it is taken.")] = 8080,
    backend_port: Annotated[int, typer.Option(help="The backend's port; a free one if it is taken.")] = 9090,
    label_studio: Annotated[
        Path | None,
        typer.Option(
            help=f"An installed label-studio {NEWEST}, or the folder of its environment, to use instead of installing one."
        ),
    ] = None,
) -> None:
    """Start Label Studio and everylabel on real crops, connect them, and say where to open them."""
    from everylabel.scripts.commands import demo

    demo.run(
        demo.Crops(data, images, classes),
        directory,
        simulated_labels=labels if annotator is Annotator.simulated else None,
        report=report,
        fresh=fresh,
        port=port,
        backend_port=backend_port,
        label_studio=label_studio,
    )
