"""Options of `everylabel serve`, and of the trainer that it starts."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 9090,
    threads: Annotated[
        int, typer.Option(min=1, max=64, help="Requests answered at a time by each worker.")
    ] = 8,
    workers: Annotated[
        int, typer.Option(min=1, max=32, help="Processes that answer requests; the trainer is one, always.")
    ] = 1,
) -> None:
    """Start the ML backend: a web server that answers at once, and a trainer beside it."""
    from everylabel.scripts.commands import serve

    serve.run(host, port, threads=threads, workers=workers)


def trainer() -> None:
    """Embed crops and run rounds until stopped; `serve` starts this."""
    from everylabel.scripts.commands import trainer

    trainer.run()
