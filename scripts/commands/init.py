"""`everylabel init`: make an active-learning project of a folder of images. Safe to run again: it goes on."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from everylabel.backend.bootstrap import build
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.scripts import image_projects
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.commands.connect import connect_and_say
from everylabel.scripts.console import console, counted, fail, progress
from everylabel.scripts.project_errors import exit_on_errors
from everylabel.scripts.replay import datasets
from everylabel.scripts.replay.datasets import Dataset, DatasetError

MEMORY = "image-folders.json"
"""The file in MODEL_DIR that remembers which project was made of which folder."""
CONVERTED = "converted-images"
"""The folder there for images that a browser would not show, as PNG."""


def run(folder: Path, classes: str, title: str, backend_url: str | None, *, hotkeys: bool) -> None:
    """Make the project of a folder, or go on with it, and connect it."""
    settings = load_settings(**({"public_url": backend_url} if backend_url else {}))
    backend = build(settings)
    try:
        backend.label_studio.users()  # a token that is refused is said before all images are read
        names = tuple(name.strip() for name in classes.split(",") if name.strip())
        dataset = datasets.load(folder, settings.model_dir / CONVERTED, classes=names, console=console)
        image_projects.say_what_was_skipped(dataset)
        project = image_projects.project_of(
            backend.label_studio,
            settings.model_dir / MEMORY,
            f"{settings.label_studio_url} {folder.absolute()}",
            title.strip() or folder.absolute().name,
            dataset.classes,
        )
        with progress() as report:
            image_projects.upload(backend.label_studio, project, dataset, report)
    except (DatasetError, LabelStudioError) as error:
        fail(error)
    except OSError as error:
        fail(f"{error}. Run it again: it goes on from here.")
    console.print(
        f"Project {project}: {counted(len(dataset), 'image')} of {folder}", markup=False, soft_wrap=True
    )
    with exit_on_errors(backend, project):
        _say_of_classes(backend.label_studio, project, dataset)
        connect_and_say(backend, project, hotkeys=hotkeys)


def _say_of_classes(label_studio: LabelStudio, project: int, dataset: Dataset) -> None:
    """Say that subfolders label nothing, and which classes the project of an earlier run lacks."""
    if dataset.labels is not None:
        console.print("The subfolders name the classes; no crop is labelled by them.")
    known = label_config.parse(str(label_studio.project(project)["label_config"])).classes
    if missing := [name for name in dataset.classes if name not in known]:
        console.print(
            f"[yellow]Not in its labeling config[/]: {escape(', '.join(missing))}. Add them in Label Studio under Settings, "
            "Labeling Interface.",
            soft_wrap=True,
        )
