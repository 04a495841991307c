"""`everylabel connect`: make a Label Studio project an active-learning project. Safe to run again."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer
from rich.markup import escape

from everylabel.backend.auth import basic_login, webhook_headers
from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.embedding.embeddings import check_encoder
from everylabel.backend.label_studio import label_config, webhooks
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import BackendUnreachableError, LabelStudioError
from everylabel.backend.label_studio.hotkeys import TOO_OLD, UNDO, submit_with_enter
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.label_studio.publisher import SAMPLING
from everylabel.backend.label_studio.required_class import MESSAGE, requires_class, with_required_class
from everylabel.backend.progress import Progress
from everylabel.backend.settings import Settings
from everylabel.scripts.console import (
    ProjectNumber,
    console,
    counted,
    fail_for_project,
    load_settings,
    progress,
)

TITLE = "everylabel"
START_SECONDS = 30
"""How long a backend that was started just before may take until it answers."""


def connect(
    project: ProjectNumber,
    backend_url: Annotated[
        str | None, typer.Option(help="Where this backend answers, as seen from Label Studio.")
    ] = None,
    require_class: Annotated[
        bool | None,
        typer.Option(
            help="Let Label Studio refuse a submit without a class; it asks on a terminal, and else changes nothing."
        ),
    ] = None,
    hotkeys: Annotated[
        bool, typer.Option("--hotkeys", help="Let Enter submit in Label Studio, for the token's user alone.")
    ] = False,
) -> None:
    """Connect a Label Studio project: backend, webhook, sampling, tabs, and the first batch."""
    settings = load_settings(**({"public_url": backend_url} if backend_url else {}))
    backend = build(settings)
    try:
        _offer_required_class(backend.label_studio, project, require_class)
        with progress() as report:
            connect_project(backend, project, report, patience=START_SECONDS)
        if hotkeys:
            taken = submit_with_enter(backend.label_studio)
            console.print(f"Enter submits now, for the token's user. {UNDO}" if taken else TOO_OLD)
    except (LabelStudioError, LabelConfigError, ImageError) as error:
        fail_for_project(error, backend, project)
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
            "Label Studio takes a submit without a class in this project, and never serves that crop again."
        )
        if not (sys.stdin.isatty() and console.is_terminal):
            console.print('[bold]--require-class[/] lets it refuse: required="true" on the <Choices>.')
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
    backend: Backend, project_id: int, report: Progress | None = None, *, patience: int = 0
) -> None:
    """Set up a project and publish its first round; what is already set up stays as it is.

    Args:
        backend: Its parts.
        project_id: the project.
        report: called with (what, done, total).
        patience: how many times, a second apart, to try again while Label Studio finds no backend.

    Raises:
        LabelStudioError: Label Studio does not answer, refuses the token, or cannot reach the backend.
        LabelConfigError: nothing in the labeling config classifies an image.
    """
    control = label_config.parse(str(backend.label_studio.project(project_id)["label_config"]))
    check_encoder(control, backend.settings.encoder)
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
        project_id, compare=True, force=not _is_followed(backend, project_id), progress=report
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
