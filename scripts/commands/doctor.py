"""`everylabel doctor`: check everything that active learning depends on, and say how to fix each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import httpx
import typer
from rich.markup import escape

from everylabel.backend.auth import basic_login, holds_key_for_people, webhook_headers
from everylabel.backend.bootstrap import Backend, build
from everylabel.backend.embedding.embeddings import EncoderError, check_encoder
from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.client import LabelStudio
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.label_studio.errors import LabelStudioError
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.label_studio.label_stream import not_served
from everylabel.backend.label_studio.publisher import SAMPLING, version_number
from everylabel.backend.label_studio.required_class import requires_class
from everylabel.backend.label_studio.versions import tested_versions, warning_about
from everylabel.backend.rounds import certificates, earlier_model, empty_annotations
from everylabel.backend.rounds.labels import current_labels
from everylabel.backend.store import StorageError
from everylabel.scripts import background_checks, second_label_checks
from everylabel.scripts.background_checks import CheckFailedError
from everylabel.scripts.checked_settings import load_settings
from everylabel.scripts.commands.connect import TITLE
from everylabel.scripts.console import console, counted


@dataclass(frozen=True)
class Finding:
    """The result of one check: `problem` is None where nothing is wrong, and a `warning` alone is no failure."""

    check: str
    detail: str
    problem: str | None = None
    warning: str | None = None
    is_well: bool = True
    """False where everything runs, and what the warning tells of has to be mended all the same."""


def run(project: int | None) -> None:
    """Show the result of every check; of a project's too, if one is named.

    Raises:
        typer.Exit: something is wrong.
    """
    backend = build(load_settings())
    faults, well = 0, True
    for finding in examine(backend, project):
        well = well and finding.is_well
        if finding.problem is not None:
            faults += 1
            console.print(f"[red]✗[/] {finding.check}: ", end="")
            console.print(finding.problem, markup=False, highlight=False, soft_wrap=True)
            continue
        console.print(f"[green]✓[/] {finding.check}: {escape(finding.detail)}", highlight=False)
        if finding.warning is not None:
            console.print(f"[yellow]![/] {finding.check}: ", end="")
            console.print(finding.warning, markup=False, highlight=False, soft_wrap=True)
    if faults:
        raise typer.Exit(1)
    console.print(
        "[green]All is well.[/]" if well else "Everything runs. What is marked with [yellow]![/] needs you."
    )


def examine(backend: Backend, project_id: int | None) -> Iterator[Finding]:
    """Run the checks in the order they depend on each other, and skip those that a fault makes pointless."""
    settings, label_studio = backend.settings, backend.label_studio
    server = _server(backend)
    yield server
    if server.problem:
        return
    token = _check("Token", lambda: _token(label_studio))
    yield token
    if settings.redis_url.get_secret_value():
        yield _check("Redis", lambda: background_checks.claims(backend))
    yield _check("Backend", lambda: _backend(backend))
    yield _check("Files", lambda: background_checks.files(backend))
    yield _check("Waiting", lambda: background_checks.waiting(backend, project_id))
    yield _check("Background", lambda: background_checks.background(backend, project_id))
    yield _crops(backend, project_id)
    if token.problem or project_id is None:
        return
    found = _check("Project", lambda: str(label_studio.project(project_id)["title"]))
    yield found
    if found.problem:
        return
    config = _check("Labeling config", lambda: _labeling_config(backend, project_id))
    yield config if config.problem else replace(config, warning=_required_class(backend, project_id))
    yield _check("ML backend", lambda: _ml_backend(backend, project_id))
    yield _check("Webhook", lambda: _webhook(backend, project_id))
    sampling = _check("Sampling", lambda: _sampling(backend, project_id))
    yield sampling
    yield _check("Media", lambda: _media(backend, project_id))
    yield _check("Rounds", lambda: _rounds(backend, project_id))
    if not sampling.problem:  # else no round is followed, which has been said
        yield _check("Label stream", lambda: _label_stream(backend, project_id))
        yield _check("Second labels", lambda: second_label_checks.check(backend, project_id))
    yield _check("Annotations", lambda: _annotations(backend, project_id))


def _token(label_studio: LabelStudio) -> str:
    return f"accepted; it sees {counted(len(label_studio.projects()), 'project')}"


def _check(name: str, run: Callable[[], str]) -> Finding:
    try:
        return Finding(name, run())
    except (
        LabelStudioError,
        LabelConfigError,
        EncoderError,
        ImageError,
        StorageError,
        CheckFailedError,
    ) as error:
        return Finding(name, "", str(error))


def _server(backend: Backend) -> Finding:
    settings, label_studio = backend.settings, backend.label_studio
    try:
        version = label_studio.version()
    except LabelStudioError as error:
        return Finding("Label Studio", "", str(error))
    detail = f"{version} at {settings.label_studio_url} (tested: {tested_versions()})"
    return Finding("Label Studio", detail, warning=warning_about(version))


def _crops(backend: Backend, project_id: int | None) -> Finding:
    try:
        detail, warning = background_checks.crops(backend, project_id)
    except StorageError as error:
        return Finding("Crops", "", str(error))
    return Finding("Crops", detail, warning=warning, is_well=warning is None)


def _backend(backend: Backend) -> str:
    url = backend.settings.public_url
    try:
        answer = httpx.get(f"{url}/health", timeout=5).raise_for_status().json()
        allowed = httpx.get(f"{url}/versions", headers=webhook_headers(backend.settings), timeout=5)
    except (httpx.HTTPError, ValueError) as error:
        raise CheckFailedError(
            f"Nothing answers as a backend at {url} ({type(error).__name__}). Start it with `everylabel serve`, and set "
            "EVERYLABEL_PUBLIC_URL to where Label Studio reaches it."
        ) from error
    if allowed.status_code == httpx.codes.UNAUTHORIZED:
        raise CheckFailedError(
            "The backend refuses BASIC_AUTH_USER and BASIC_AUTH_PASS (or EVERYLABEL_DELIVERY_SECRET) as set here: set the "
            "same values on both sides."
        )
    if allowed.status_code == httpx.codes.MISDIRECTED_REQUEST:
        raise CheckFailedError(f"The backend at {url} does not accept this name. {allowed.json()['error']}")
    if answer.get("trainer") != "alive":
        raise CheckFailedError(
            f"The backend answers at {url}, but its trainer is not running. Start it with `everylabel serve`."
        )
    return f"answers at {url}, trainer alive"


def _labeling_config(backend: Backend, project_id: int) -> str:
    control = label_config.parse(str(backend.label_studio.project(project_id)["label_config"]))
    check_encoder(control, backend.embeddings.name(backend.store.project(project_id)))
    several = ", several a crop" if control.multiple else ""
    part = "a part of " if control.part else ""
    return (
        f"<Choices name={control.from_name!r}> with {len(control.classes)} classes{several} on {part}the {control.kind} "
        f"${control.image_key}"
    )


def _required_class(backend: Backend, project_id: int) -> str | None:
    """Return a warning where Label Studio accepts a submit without a class; multiple choices may mean none."""
    config = str(backend.label_studio.project(project_id)["label_config"])
    if label_config.parse(config).multiple or requires_class(config):
        return None
    return (
        'Without required="true" on its <Choices>, Label Studio saves a submit without a class and counts the crop as '
        f"labelled. Run: everylabel connect --project {project_id} --require-class"
    )


def _ml_backend(backend: Backend, project_id: int) -> str:
    url = backend.settings.public_url
    known = [
        b
        for b in backend.label_studio.ml_backends(project_id)
        if b["url"].rstrip("/") == url or b["title"] == TITLE
    ]
    if not known:
        raise CheckFailedError(
            f"The project is not connected to {url}. Run: everylabel connect --project {project_id}"
        )
    if known[0]["url"].rstrip("/") != url:
        raise CheckFailedError(
            f"The project is connected to {known[0]['url']}, not to {url}. Run: everylabel connect --project {project_id}"
        )
    login = basic_login(backend.settings)
    if login is not None and known[0].get("basic_auth_user") not in {None, login[0]}:
        raise CheckFailedError(
            f"Label Studio calls {url} with the key for people: it should have the one for deliveries. Run: "
            f"everylabel connect --project {project_id}"
        )
    if known[0].get("readable_state") != "Connected":
        why = known[0].get("error_message") or known[0].get("readable_state")
        host = urlsplit(url).hostname
        raise CheckFailedError(
            f"Label Studio cannot use the backend at {url}: {why}. Is {host} reachable from Label Studio's own machine? "
            "(In a container, localhost is the container.)"
        )
    return f"connected to {url}"


def _webhook(backend: Backend, project_id: int) -> str:
    url = f"{backend.settings.public_url}/webhook"
    hooks = [hook for hook in backend.label_studio.webhooks(project_id) if hook["url"] == url]
    again = f"Run: everylabel connect --project {project_id}"
    if not hooks:
        raise CheckFailedError(
            f"No webhook goes to {url}, so training never fires. {again}. If that does not help, Label Studio blocks the "
            "address: see SSRF_PROTECTION_ENABLED."
        )
    if not hooks[0]["is_active"]:
        raise CheckFailedError(f"The webhook to {url} is switched off. {again}")
    if not hooks[0]["send_payload"]:
        raise CheckFailedError(f"The webhook to {url} sends no payload. {again}")
    headers = hooks[0].get("headers") or {}
    if holds_key_for_people(backend.settings, headers):
        raise CheckFailedError(
            f"The webhook to {url} carries the key for people, which opens the page, and every account of Label Studio can "
            f"read it. {again}; then change BASIC_AUTH_PASS (or EVERYLABEL_BEARER_SECRET)."
        )
    if headers != webhook_headers(backend.settings):
        raise CheckFailedError(
            f"The webhook to {url} carries another password than the backend asks for. {again}"
        )
    return f"goes to {url}"


def _sampling(backend: Backend, project_id: int) -> str:
    project = backend.label_studio.project(project_id)
    again = f"Run: everylabel sync --project {project_id}"
    if project["sampling"] != SAMPLING:
        raise CheckFailedError(
            f"The project's sampling is {project['sampling']!r}, so the queue is not followed. {again}"
        )
    version = str(project["model_version"] or "")
    if version_number(version) is None:
        raise CheckFailedError(
            f"The project follows {version!r}, which is no round: uncertainty sampling is silently random. {again}"
        )
    return f"uncertainty sampling, following {version!r}"


def _media(backend: Backend, project_id: int) -> str:
    config = str(backend.label_studio.project(project_id)["label_config"])
    control = label_config.parse(config)
    first = next(iter(backend.label_studio.tasks(project_id)), None)
    if first is None:
        raise CheckFailedError("The project has no tasks: import some crops.")
    crop = control.crop(first.get("data"))
    if crop.url is None:
        raise CheckFailedError(f"Task {first['id']}: {crop.problem}")
    text = label_config.text_of(crop.url)
    if text is not None:
        return f"task {first['id']} is a text of {len(text)} characters"
    image = backend.reader.read(crop.url, int(first["id"]))
    return f"task {first['id']} is a picture of {image.width} x {image.height} px"


def _rounds(backend: Backend, project_id: int) -> str:
    project = backend.store.project(project_id)
    latest = backend.store.latest_round(project_id)
    if project is None or latest is None:
        raise CheckFailedError(f"No round has been run. Run: everylabel connect --project {project_id}")
    if problem := project.problem or certificates.problem(backend, project_id):
        raise CheckFailedError(problem)
    certificate = certificates.describe(backend, project_id)
    began = earlier_model.in_words(project, earlier_model.in_use(backend.store, project))
    return (
        f"{latest.model_version} with {latest.n_labels} labels{certificate and f'; certificate {certificate}'}"
        f"{began and f'; began with {began}'}"
    )


def _label_stream(backend: Backend, project_id: int) -> str:
    """Compare the crops that the round asks for with those that Label Studio can serve."""
    number = version_number(str(backend.label_studio.project(project_id)["model_version"]))
    record = None if number is None else backend.store.round(project_id, number)
    if record is None:
        raise CheckFailedError(
            f"No round of this backend is being served. Run: everylabel sync --project {project_id}"
        )
    asked = [*record.queue, *record.pre_annotated]
    left_out = not_served(backend.label_studio, project_id, asked, record.model_version)
    if left_out and (waiting := len(backend.store.events(project_id))):
        return f"a new round is due: {counted(waiting, 'webhook')} waiting"
    newest = backend.store.latest_round(project_id)
    if left_out and newest is not None and newest.number > record.number:
        return f"{newest.model_version} is about to be served"
    if left_out:
        first = ", ".join(
            f"task {id_} ({reason})" for id_, reason in list(left_out.items())[: empty_annotations.NAMED]
        )
        raise CheckFailedError(
            f"Label Studio does not serve {len(left_out)} of the {len(asked)} crops that {record.model_version} asks for: "
            f"{first}. Run: everylabel sync --project {project_id}"
        )
    return f"all {len(asked)} crops of {record.model_version} can be served"


def _annotations(backend: Backend, project_id: int) -> str:
    """Check for annotations without a class: somebody may believe they have labelled those crops."""
    project = backend.store.project(project_id)
    if project is None:
        return "none known"
    control = label_config.parse(project.label_config)
    annotations = backend.store.annotations(project_id)
    labels = current_labels(backend.store, project_id, annotations, control.classes)
    found = empty_annotations.empty_annotations(annotations, labels, control.classes)
    if found:
        raise CheckFailedError(
            f"{empty_annotations.counted_in_words(found)}, so these crops count as skipped: "
            f"{empty_annotations.named(found)}. {empty_annotations.way_out(control)}"
        )
    return f"{len(labels)} labelled crops, no annotation without a class"
