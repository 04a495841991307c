"""`everylabel export`: write a project's model as one ONNX file, with its card."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from everylabel.backend.bootstrap import build
from everylabel.backend.exporting.export import ExportError, export_model
from everylabel.backend.rounds.accuracy import Interval
from everylabel.model.onnx_graph import NotExportableError
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, fail
from everylabel.scripts.project_errors import exit_on_errors, searched, where_unknown


def run(project: int, output: Path) -> None:
    """Export the model in use, and say what was written."""
    backend = build(load_settings())
    known = backend.store.project(project)
    if known is None:
        fail(
            f"Project {project} is not connected. "
            f"To connect it: everylabel connect --project {project}\n{searched(backend.settings)}"
        )
    try:
        with exit_on_errors(backend, project):
            card = export_model(backend, project, output)
    except (ExportError, NotExportableError) as error:
        fail(f"{error}{where_unknown(backend, project)}")
    classes, labels = f"{len(card['classes'])} classes", card["labels"]
    console.print(
        f"{escape(str(output))}: {card['file']['bytes'] / 1e6:.1f} MB, {classes}, from {counted(labels['trained_on'], 'label')}. "
        f"Its card: {escape(str(output.with_suffix('.md')))} and {escape(output.with_suffix('.json').name)}.",
        soft_wrap=True,
        highlight=False,
    )
    if (found := card["accuracy"]) is not None:
        whole = Interval(found["estimate"], found["low"], found["high"])
        console.print(
            f"Accuracy: between {whole.low_percent} and {whole.high_percent} % (95 % confidence).",
            highlight=False,
        )
    console.print(
        f"On new pictures: everylabel predict --model {escape(str(output))} FOLDER -o predictions.csv",
        soft_wrap=True,
        highlight=False,
    )
