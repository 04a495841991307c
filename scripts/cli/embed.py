"""Options of `everylabel embed`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from everylabel.scripts.cli.options import ProjectNumber


class Engine(str, Enum):
    """Where the work is done."""

    LOCAL = "local"
    RAY = "ray"


def embed(
    project: ProjectNumber,
    engine: Annotated[Engine, typer.Option(help="`local`, or `ray` for a Ray cluster (the extra `ray`).")] = (
        Engine.LOCAL
    ),
    address: Annotated[
        str,
        typer.Option(
            help="Where the Ray cluster is: `auto` for the one this machine belongs to, `local` for one of its own, or "
            "`host:6379`."
        ),
    ] = "auto",
    storage: Annotated[
        str,
        typer.Option(
            help="A folder the whole cluster can read, as fsspec names it, such as `s3://bucket/everylabel`. Without it, "
            "`MODEL_DIR` must lie under the same name on every machine."
        ),
    ] = "",
) -> None:
    """Read a project, embed every crop that is not embedded yet, and run a round if one is due."""
    from everylabel.scripts.commands import embed

    embed.run(project, embed.RayCluster(address, storage) if engine is Engine.RAY else None)
