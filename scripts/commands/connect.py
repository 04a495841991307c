"""`everylabel connect`: make a Label Studio project an active-learning project. Safe to run again."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from everylabel.backend.auth import basic_login, webhook_headers
from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio import label_config, webhooks
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.errors import BackendUnreachableError
from everylabel.backend.label_studio.hotkeys import TOO_OLD, UNDO, submit_with_enter
from everylabel.backend.label_studio.overlap import ask_one_person, leave_choice_open, own_overlap_of
from everylabel.backend.label_studio.publisher import SAMPLING
from everylabel.backend.label_studio.required_class import MESSAGE, requires_class, with_required_class
from everylabel.backend.progress import Progress
from everylabel.backend.rounds import earlier_model
from everylabel.backend.rounds.earlier_model import Taken
from everylabel.backend.rounds.labels import weighs_votes
from everylabel.backend.rounds.models import make_classifier
from everylabel.backend.settings import Settings
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.console import console, counted, fail, progress
from everylabel.scripts.hub_licence import say_licence
from everylabel.scripts.old_labels import OldLabelsError, bring_in, read_labels
from everylabel.scripts.project_errors import exit_on_errors

TITLE = "everylabel"
NONE = "none"
"""The model that makes a project forget the one it began with."""
START_SECONDS = 30
"""How long a backend that was started just before may take until it answers."""


def run(
    project: int,
    backend_url: str | None,
    *,
    require_class: bool | None,
    hotkeys: bool,
    second_labels: int | None = None,
    labels: Path | None = None,
    from_model: str | None = None,
) -> None:
    """Bring in old labels and an earlier model where there are any, connect a project, and say what comes next."""
    settings = load_settings(**({"public_url": backend_url} if backend_url else {}))
    backend = build(settings)
    with exit_on_errors(backend, project):
        taken = None if from_model in (None, NONE) else _take(backend, project, Path(str(from_model)))
        _offer_required_class(backend.label_studio, project, require_class)
        if labels is not None:
            _bring_in(backend.label_studio, project, labels)
        changed = False
        if taken is not None:
            changed = _begin_with(backend, project, taken)
        elif from_model == NONE:
            changed = _forget_model(backend, project)
        if second_labels is not None:
            _ask_people(backend, project, second_labels)
            changed = True  # also where this was tried before, and broken off before the round
        connect_and_say(backend, project, hotkeys=hotkeys, force=changed)


def connect_and_say(backend: Backend, project: int, *, hotkeys: bool, force: bool = False) -> None:
    """Connect a project, let Enter submit where that is wanted, and say what comes next.

    Args:
        backend: The backend's parts.
        project: The project.
        hotkeys: Let Enter submit.
        force: Run a round even if no crop and no label is new.

    Raises:
        LabelStudioError: Label Studio does not answer, or refuses.
    """
    say_licence(backend.embeddings.name(backend.store.project(project)))
    with progress() as report:
        connect_project(backend, project, report, patience=START_SECONDS, force=force)
    if hotkeys:
        _let_enter_submit(backend.label_studio)
    _say_connected(backend, project)


def _take(backend: Backend, project_id: int, path: Path) -> Taken:
    """Read the model that a project is to begin with; one that does not fit is refused, and nothing is changed."""
    found = backend.label_studio.project(project_id)
    control = label_config.parse(str(found["label_config"]))
    known = backend.store.project(project_id)
    if known is not None and known.next_encoder:
        fail(
            f"Project {project_id} is being switched to another encoder. Wait until `everylabel status --project {project_id}` says "
            "that it is done, then try again."
        )
    name = backend.embeddings.name(known)
    check_encoder(control, name)
    try:
        taken = earlier_model.take(path, project_id, name, backend.embeddings, control)
        earlier_model.check_origin(taken, path, project_id, str(found["title"]))
    except earlier_model.EarlierModelError as error:
        fail(error)
    return taken


def _begin_with(backend: Backend, project_id: int, taken: Taken) -> bool:
    """Have a project begin with a model, and say what it knows; return True, for a round is due."""
    earlier_model.begin_with(backend.store, backend.files(project_id), project_id, taken)
    console.print(
        f"Begins with {escape(taken.model.file)}, which knows {escape(', '.join(taken.known))}. It predicts until the project's own "
        "labels outvote it.",
        highlight=False,
    )
    if taken.left_out:
        console.print(
            f"Left out: {escape(', '.join(taken.left_out))}: the labeling config has no such class.",
            highlight=False,
        )
    if taken.unknown:
        console.print(f"It does not know: {escape(', '.join(taken.unknown))}.", highlight=False)
    return True


def _forget_model(backend: Backend, project_id: int) -> bool:
    """Have a project forget the model it began with, and say so; return True if there was one."""
    model = earlier_model.forget(backend.store, backend.files(project_id), project_id)
    if model is None:
        console.print(f"Project {project_id} did not begin with a model: there is nothing to forget.")
        return False
    console.print(f"{escape(model.file)} is forgotten: the next round is run without it.", highlight=False)
    known = backend.store.project(project_id)
    if known is not None and known.model_pinned:
        console.print(
            f"The model of round {known.model_round} goes on answering, as everylabel rollback has asked; the newest one does after "
            f"everylabel rollback --project {project_id} --newest."
        )
    return True


def _ask_people(backend: Backend, project_id: int, people: int) -> None:
    """Have Label Studio ask up to so many people about a crop, and say what it does now."""
    label_studio = backend.label_studio
    if people < 2:
        off = ask_one_person(label_studio, project_id)
        console.print(
            "Second labels are off: Label Studio asks one person about each crop. Labels that were given stay."
            if off
            else f"Project {project_id} has no second labels that everylabel asks for: there is nothing to turn off."
        )
        return
    control = label_config.parse(str(label_studio.project(project_id)["label_config"]))
    name = backend.embeddings.name(backend.store.project(project_id))
    check_encoder(control, name)
    if not weighs_votes(make_classifier(control, backend.embeddings.named(name))):
        fail(
            f"{name} is trained whole on the labels: which crops one more label tells most of is not known then, and nobody's labels are "
            "weighed. Nothing was changed."
        )
    before = leave_choice_open(label_studio, project_id, people)
    if before is not None and (own := own_overlap_of(before)) > 1:
        share = int(before.get("overlap_cohort_percentage") or 0)
        console.print(
            f"Until now Label Studio asked {own} people about {share} % of the crops, picked by itself."
        )
    console.print(
        f"Second labels are on: Label Studio asks up to {people} people about the crops that another label tells most of, at most one "
        "label in five, once two people have labelled. They come before all other crops, as does what somebody else has skipped. "
        f"Back: everylabel connect --project {project_id} --no-second-labels",
        highlight=False,
    )


def _bring_in(label_studio: LabelStudio, project_id: int, table: Path) -> None:
    """Make annotations of a table's labels, and say how many of its lines were left out, and why."""
    control = label_config.parse(str(label_studio.project(project_id)["label_config"]))
    try:
        found = read_labels(table)
        with progress() as report:
            written = bring_in(label_studio, project_id, found, control, report)
    except OldLabelsError as error:
        fail(error)
    console.print(f"{counted(written, 'label')} of {escape(str(table))} brought in, as the token's user.")
    for why, count in found.left_out.items():
        if count:
            console.print(f"Left out: {counted(count, 'label')}: {why}.")


def _let_enter_submit(label_studio: LabelStudio) -> None:
    """Let Enter submit for the token's user, and say how to take it back."""
    taken = submit_with_enter(label_studio)
    console.print(f"Enter submits now, for the token's user. {UNDO}" if taken else TOO_OLD)


def _say_connected(backend: Backend, project: int) -> None:
    """Say where a connected project is, what it asks for, and what cannot be read."""
    settings = backend.settings
    counts = backend.store.count_tasks(project)
    crops = sum(counts.values())
    latest = backend.store.latest_round(project)
    console.print(
        f"[green]Connected[/] project {project} at {settings.label_studio_browser_url}/projects/{project}/"
    )
    if not crops:
        console.print("It has no tasks yet: import some crops, and the first batch is chosen by itself.")
    elif latest is not None:
        console.print(
            f"{counted(crops, 'crop')}, {counted(latest.n_labels, 'label')}; {latest.model_version} asks for "
            f"{counted(len(latest.queue), 'crop')}. "
            "Press [bold]Label All Tasks[/]."
        )
    console.print(f"See how it goes: {settings.page_browser_url}/projects/{project}")
    broken = backend.store.unreadable_task(project)
    if broken is not None:
        console.print(
            f"[yellow]{counted(counts['unreadable'], 'crop')} cannot be read[/], e.g. task {broken.id}: {escape(str(broken.problem))}"
        )


def _offer_required_class(label_studio: LabelStudio, project_id: int, wanted: bool | None) -> None:
    """Add `required="true"` to the labeling config if the project's owner agrees; without a terminal, say how to."""
    config = str(label_studio.project(project_id)["label_config"])
    if wanted is False or requires_class(config):
        return
    several = label_config.parse(config).multiple
    if wanted is None:
        if several:  # none of them may be meant
            return
        console.print(
            "In this project Label Studio accepts a submit without a class, and never serves that crop again."
        )
        if not (sys.stdin.isatty() and console.is_terminal):
            console.print(
                '[bold]--require-class[/] makes it refuse one: it adds required="true" to the <Choices>.'
            )
            return
        if not typer.confirm('Let it refuse (adds required="true" to the <Choices> of the labeling config)?'):
            return
    label_studio.update_project(project_id, label_config=with_required_class(config))
    console.print(f"Label Studio refuses a submit without a class now: {MESSAGE}")
    if several:
        console.print(
            "Crops of no class need one of their own, such as [bold]none of these[/], or are skipped."
        )


def connect_project(
    backend: Backend,
    project_id: int,
    report: Progress | None = None,
    *,
    patience: int = 0,
    force: bool = False,
) -> None:
    """Set up a project and publish its first round; what is already set up stays as it is.

    Args:
        backend: Its parts.
        project_id: the project.
        report: called with (what, done, total).
        patience: how many times, a second apart, to try again while Label Studio finds no backend.
        force: run a round even if no crop and no label is new.

    Raises:
        LabelStudioError: Label Studio does not answer, refuses the token, or cannot reach the backend.
        LabelConfigError: nothing in the labeling config classifies an image.
    """
    control = label_config.parse(str(backend.label_studio.project(project_id)["label_config"]))
    check_encoder(control, backend.embeddings.name(backend.store.project(project_id)))
    for waited in range(patience + 1):
        try:
            register(backend.label_studio, backend.settings, project_id)
            break
        except BackendUnreachableError:
            if waited == patience:
                raise
            if report is not None:
                report(f"Waiting for a backend at {backend.settings.public_url}", waited, patience)
            time.sleep(1)
    backend.store.save_project(project_id, connected=True)
    backend.loop.catch_up(
        project_id, compare=True, force=force or not _is_followed(backend, project_id), progress=report
    )


def _is_followed(backend: Backend, project_id: int) -> bool:
    """Return True if the label stream follows the newest round: Label Studio's settings page can change that."""
    latest = backend.store.latest_round(project_id)
    project = backend.label_studio.project(project_id)
    shown = (project["sampling"], project["model_version"])
    return latest is not None and shown == (SAMPLING, latest.model_version)


def register(label_studio: LabelStudio, settings: Settings, project_id: int) -> None:
    """Tell Label Studio where the backend is, and where to send webhooks.

    The backend comes first: if it is refused, the webhook stays as it was. Label Studio then creates a webhook by
    itself, for every action and without a password; that one is corrected.
    """
    known = [
        found
        for found in label_studio.ml_backends(project_id)
        if found["title"] == TITLE or found["url"].rstrip("/") == settings.public_url
    ]
    backend: dict[str, Any] = {"url": settings.public_url, "title": TITLE, "is_interactive": False}
    if login := basic_login(settings):
        user, password = login
        backend |= {"auth_method": "BASIC_AUTH", "basic_auth_user": user, "basic_auth_pass": password}
    label_studio.save_ml_backend(int(known[0]["id"]) if known else None, project=project_id, **backend)

    hook_url = f"{settings.public_url}/webhook"
    # Where this backend listened on an earlier run counts as its own; other backends' webhooks are theirs.
    ours = {hook_url, *(f"{found['url'].rstrip('/')}/webhook" for found in known)}
    webhook: dict[str, Any] = {
        "url": hook_url,
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": sorted(webhooks.MODELS.keys() - {"START_TRAINING", "PROJECT_DELETED"}),
        "headers": webhook_headers(settings),
        "is_active": True,
    }
    hooks = [hook for hook in label_studio.webhooks(project_id) if hook["url"] in ours]
    if not hooks:
        label_studio.save_webhook(None, project=project_id, **webhook)
    elif (
        any(hooks[0].get(key) != value for key, value in webhook.items() if key != "actions")
        or sorted(hooks[0].get("actions") or []) != webhook["actions"]
    ):
        label_studio.save_webhook(int(hooks[0]["id"]), **webhook)
