"""Options of `everylabel init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(help="A folder of images, or of one subfolder a class.")],
    classes: Annotated[
        str, typer.Option(help="The classes, as in `cat,dog`; without, the names of the subfolders.")
    ] = "",
    title: Annotated[str, typer.Option(help="The project's title; without, the folder's name.")] = "",
    backend_url: Annotated[
        str | None, typer.Option(help="Where this backend answers, as seen from Label Studio.")
    ] = None,
    hotkeys: Annotated[
        bool, typer.Option("--hotkeys", help="Let Enter submit in Label Studio, for the token's user alone.")
    ] = False,
) -> None:
    """Make a project of a folder of images in your own Label Studio: labeling config, upload, and `connect`."""
    from everylabel.scripts.commands import init

    init.run(folder, classes, title, backend_url, hotkeys=hotkeys)
