"""Options of `everylabel export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everylabel.scripts.cli.options import ProjectNumber


def export(
    project: ProjectNumber,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Where the model goes; its card is written beside it, as .md and .json."
        ),
    ] = Path("model.onnx"),
) -> None:
    """Write a project's model as one ONNX file, with a card of what it is worth: for `everylabel predict`, or onnxruntime alone."""
    from everylabel.scripts.commands import export

    export.run(project, output)
