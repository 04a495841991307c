"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectNumber = Annotated[
    int, typer.Option(min=1, help="The number in the project's address, /projects/<number>/.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; write nothing.")]
EmbeddingCache = Annotated[Path, typer.Option(help="Where embeddings are kept.")]
Processes = Annotated[int, typer.Option(min=0, help="Processes; 0 for one a core.")]


def share(text: str) -> float:
    """Return a share that was given as `2%` or `0.02`.

    Raises:
        typer.BadParameter: It is no number, or does not lie between 0.1 % and 50 %.
    """
    number = text.strip().removesuffix("%")
    try:
        found = float(number) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        found = float("nan")
    if not 0.001 <= found <= 0.5:
        raise typer.BadParameter(f"{text!r} is no share from 0.1% to 50%: write 2% or 0.02.")
    return found
