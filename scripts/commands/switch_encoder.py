"""`everylabel encoders --switch`: have a project use another encoder, between two rounds."""

from __future__ import annotations

from contextlib import ExitStack

from rich.markup import escape

from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.rounds.encoder_switch import SwitchError, SwitchProgress
from everylabel.backend.rounds.round_lock import round_lock
from everylabel.backend.store import Project
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, fail, progress
from everylabel.scripts.hub_licence import say_licence
from everylabel.scripts.project_errors import exit_on_errors, searched


def run(project: int, name: str) -> None:
    """Begin the switch to an encoder, call off the one that is under way, or say how far it is."""
    backend = build(load_settings())
    before = backend.store.project(project)
    if before is None:
        fail(
            f"Project {project} is not connected. "
            f"To connect it: everylabel connect --project {project}\n{searched(backend.settings)}"
        )
    with ExitStack() as held:
        held.enter_context(exit_on_errors(backend, project))
        if name != backend.embeddings.name(before):
            say_licence(name)
            backend.embeddings.named(name)  # may be a download; rounds go on meanwhile
        with progress() as report:  # no round changes over meanwhile
            held.enter_context(round_lock(backend.files(project), True, report))
        known = backend.store.project(project)
        if known is None:
            fail(f"Project {project} was deleted meanwhile.")
        in_use = backend.embeddings.name(known)
        if name == in_use and known.next_encoder is not None:
            backend.encoder_switch.call_off(project)
            console.print(
                f"The switch to {escape(known.next_encoder)} is called off: project {project} stays with {escape(in_use)}."
            )
            return
        if name != known.next_encoder:
            _begin(backend, known, name)
        _tell(backend, project, in_use)


def _begin(backend: Backend, project: Project, name: str) -> None:
    try:
        backend.encoder_switch.begin(project, name)
    except (SwitchError, EncoderError) as error:
        fail(error)


def _tell(backend: Backend, project_id: int, in_use: str) -> None:
    project = backend.store.project(project_id)
    switch = None if project is None else backend.encoder_switch.progress(project)
    if switch is None:
        return
    console.print(
        f"Project {project_id} is being switched from {escape(in_use)} to [bold]{escape(switch.encoder)}[/]: "
        f"{in_words(switch)}. {escape(in_use)} goes on answering until all are, then the next round is "
        f"{escape(switch.encoder)}'s. Labels stay as they are.",
        highlight=False,
        soft_wrap=True,
    )
    if project is not None and project.earlier_model:
        console.print(
            "The model that the project began with reads the rows of one encoder alone: with another it has no say."
        )
    console.print(
        f"How far it is: everylabel status --project {project_id}\n"
        f"To stay with {escape(in_use)}, now or later: everylabel encoders --project {project_id} --switch {escape(in_use)}",
        highlight=False,
        soft_wrap=True,
    )
    if not backend.heartbeat.alive():
        console.print(
            "[red]The trainer is not running[/]: the switch begins once `everylabel serve` is started."
        )


def in_words(switch: SwitchProgress) -> str:
    """Say how far a switch is."""
    return f"{switch.embedded:,} of {counted(switch.crops, 'crop')} are embedded"
