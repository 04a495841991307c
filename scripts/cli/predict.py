"""Options of `everylabel predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Pictures (or texts), folders of them, or `-` for paths from the standard input; with --boxes or --text, tables (.csv).",
            metavar="FILES|FOLDERS|-",
        ),
    ],
    model: Annotated[Path, typer.Option(help="What `everylabel export` wrote.")] = Path("model.onnx"),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A .csv, .jsonl or .parquet file; without, CSV to the standard output. The same command again takes up a "
            "run that was killed, and adds pictures that are new.",
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="The sources are tables, and this column of them holds boxes, `x y width height` in pixels; paths are in a "
            "column called path, image, file, filename or crop, from the folder of the table.",
            metavar="COLUMN",
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="For a model of texts: the sources are tables, and this column of them holds a text a row. Without it, files "
            "ending in .txt are texts.",
            metavar="COLUMN",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; one a core if not given.")] = None,
) -> None:
    """Predict new pictures or texts with an exported model, without Label Studio, and flag those unlike anything in its pool.

    A file that cannot be read is named and passed over. The exit status is 1 only if that befell every picture.
    """
    from everylabel.scripts.commands import predict

    predict.run(model, sources, output, box_column=boxes, text_column=text, threads=threads)
