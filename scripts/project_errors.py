"""Errors that stop a command's work on a project, in one sentence; and where a project was searched that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from everylabel.backend.bootstrap import Backend
from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError, ProjectNotFoundError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.rounds.pool_predictions import EncoderSwitchedError
from everylabel.backend.settings import Settings
from everylabel.scripts.console import fail

DEMO_ENVIRONMENT = ".everylabel/demo/environment"
"""Where the demo writes its settings, unless it is told another folder."""


@contextmanager
def exit_on_errors(backend: Backend, project: int) -> Iterator[None]:
    """Exit with the error that work on a project ends in; where Label Studio has no such project, say where it was searched.

    Raises:
        typer.Exit: Label Studio does not answer or refuses, or the labeling config or a crop cannot be used.
    """
    try:
        yield
    except ProjectNotFoundError as error:
        fail(f"{error}{where_unknown(backend, project)}")
    except (LabelStudioError, LabelConfigError, ImageError, EncoderError, EncoderSwitchedError) as error:
        fail(error)


def where_unknown(backend: Backend, project: int) -> str:
    """Return a sentence, to follow an error, about where the project was searched; empty where its rounds are known."""
    if backend.store.latest_round(project) is not None:
        return ""
    return f"\nNo rounds of project {project} are known. {searched(backend.settings)}"


def searched(settings: Settings) -> str:
    """Name the folder that was searched for projects: a wrong MODEL_DIR is the usual reason to find none."""
    return (
        f"Searched: MODEL_DIR={settings.model_dir.absolute()}. If the project is in another folder, set MODEL_DIR; "
        f"the demo's settings are in its environment file: . {DEMO_ENVIRONMENT}"
    )
