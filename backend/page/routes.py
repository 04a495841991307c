"""The page's routes: HTML for people, small binary answers for the map, thumbnails."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, jsonify, make_response, render_template, request
from werkzeug.exceptions import HTTPException, NotFound

from everylabel.backend.label_studio import label_config
from everylabel.backend.label_studio.crop_errors import ImageError
from everylabel.backend.metrics import health
from everylabel.backend.page import points
from everylabel.backend.page.figures import RoundLog, read_control, read_figures, shown_classes, status
from everylabel.backend.page.galleries import galleries
from everylabel.backend.page.thumbnails import LARGE_KEPT, LARGE_SIDE, BusyError, Thumbnails
from everylabel.backend.rounds import certificates
from everylabel.backend.rounds.accuracy import accuracy_of
from everylabel.backend.rounds.certificates import StoreAndFiles
from everylabel.backend.rounds.empty_annotations import counted_in_words, named
from everylabel.backend.rounds.labelled_in import labelled_in
from everylabel.backend.rounds.labels import current_labels
from everylabel.backend.rounds.outlook import certificate_in_words
from everylabel.backend.rounds.people import said_of
from everylabel.backend.rounds.rare_classes import missing_in_words, single_in_words
from everylabel.backend.store import LARGEST_ID

if TYPE_CHECKING:
    from everylabel.backend.images.reader import ImageReader
    from everylabel.backend.settings import Settings
    from everylabel.backend.store import Project, ProjectState, RoundRecord, Store
    from everylabel.backend.store.files import ProjectFiles
    from everylabel.backend.store.heartbeat import Heartbeat
    from everylabel.backend.store.pool_files import PoolFiles

HEADERS = {
    # Nothing but what this server sends; no script and no style inside a page, where task data could bring one.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
TEXT_SHOWN = 220


def wants_html() -> bool:
    """Return True for a browser, False for a program that accepts anything."""
    accepted = request.accept_mimetypes
    return accepted.quality("text/html") > accepted.quality("application/json")


class Page:
    """The page of one backend; `blueprint` holds its routes.

    Args:
        settings: Where Label Studio's own pages are.
        store: What is shown.
        files: Returns a project's files.
        pool_files: The newest round's predictions, and the map.
        reader: Fetches the crops of thumbnails.
        heartbeat: Of the trainer.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        files: Callable[[int], ProjectFiles],
        pool_files: PoolFiles,
        reader: ImageReader,
        heartbeat: Heartbeat,
    ) -> None:
        self._settings = settings
        self._store = store
        self._heartbeat = heartbeat
        self._rounds = RoundLog()
        self._files = pool_files
        self._certificates = StoreAndFiles(store, files)
        self._thumbnails = Thumbnails(files, reader)
        self._large = Thumbnails(files, reader, LARGE_KEPT, LARGE_SIDE)
        self._edition = _edition()
        self.blueprint = Blueprint(
            "page",
            __name__,
            template_folder="templates",
            static_folder="static",
            static_url_path="/static/page",
        )
        for rule, view in (
            ("/", self.root),
            ("/projects/<int:project_id>", self.project),
            ("/projects/<int:project_id>/points", self.points),
            ("/projects/<int:project_id>/colours", self.colours),
            ("/projects/<int:project_id>/crops/<int:task_id>", self.crop),
        ):
            self.blueprint.add_url_rule(rule, view_func=view, methods=["GET"], strict_slashes=False)
        self.blueprint.after_request(_guard)
        self.blueprint.register_error_handler(HTTPException, self._http_error)
        self.blueprint.add_app_template_global(self.task_address, "task_address")
        self.blueprint.add_app_template_filter(_percent, "percent")
        self.blueprint.add_app_template_filter(accuracy_of, "accuracy")
        for words in (single_in_words, missing_in_words, counted_in_words, named):
            self.blueprint.add_app_template_filter(words)
        self.blueprint.add_app_template_filter(_points, "points")
        self.blueprint.add_app_template_filter(_iso, "iso")
        self.blueprint.add_app_template_filter(_sentence, "sentence")

    # --- pages

    def root(self) -> Response:
        """Show every project the backend knows; to a probe, which accepts anything, answer as `/health` does."""
        answer = self.projects() if wants_html() else jsonify(health(self._heartbeat))
        answer.vary.add("Accept")
        return answer

    def projects(self) -> Response:
        """Show every project the backend knows."""
        states = [
            (project.id, state)
            for project in self._store.projects()
            if (state := self._store.state(project.id)) is not None
        ]
        alive = self._heartbeat.alive()

        def render() -> str:
            found = [
                {
                    "figures": read_figures(
                        self._store, self._rounds, project_id, state, trainer_alive=alive
                    ),
                    "status": status(project_id, state, alive),
                }
                for project_id, state in states
            ]
            return render_template("page/projects.html", projects=found, settings=self._settings)

        return self._fresh(render, states, alive)

    def project(self, project_id: int) -> Response:
        """Show one project's page."""
        state = self._known(project_id)
        versions = self._files.versions(project_id)
        alive = self._heartbeat.alive()

        def render() -> str:
            snapshot, pool_map = self._files.snapshot(project_id), self._files.map(project_id)
            quality = {} if snapshot is None else snapshot.quality
            figures = read_figures(
                self._store, self._rounds, project_id, state, trainer_alive=alive, quality=quality
            )
            project = self._store.project(project_id)
            shown = galleries(
                figures.latest,
                snapshot,
                pool_map,
                figures.labels,
                _blind(project, figures.latest),
                figures.closed,
            )
            return render_template(
                "page/project.html",
                figures=figures,
                certificate=certificates.describe(self._certificates, project_id),
                certificate_cost=certificate_in_words(
                    snapshot,
                    {*figures.labels, *figures.closed, *(project.check_tasks if project else ())},
                    figures.seconds_per_label,
                ),
                chart=[(a.n_labels, a.estimate, a.low, a.high) for a in figures.history],
                galleries=shown,
                said_of=said_of,
                texts=self._texts(project_id, shown.tasks()),
                snapshot=snapshot,
                pool_map=pool_map,
                map_version=versions[1],
                colours_version=f"{versions[0]}-{state.newest_round}-{state.annotations}-{state.annotated_at}",
                settings=self._settings,
            )

        return self._fresh(render, state, alive, versions)

    # --- the map

    def points(self, project_id: int) -> Response:
        """Send every crop's position on the map."""
        self._require(project_id)
        # Before the files are read: of one that changes meanwhile, the tag must not be the new one's.
        versions = self._files.versions(project_id)
        snapshot, pool_map = self._files.snapshot(project_id), self._files.map(project_id)
        if snapshot is None or pool_map is None:
            raise NotFound("There is no map yet: it is drawn after the first round.")
        return self._fresh(lambda: points.points(snapshot, pool_map), versions)

    def colours(self, project_id: int) -> Response:
        """Send the labels and predictions of every crop of the map."""
        state = self._known(project_id)
        versions = self._files.versions(project_id)
        snapshot, pool_map = self._files.snapshot(project_id), self._files.map(project_id)
        if snapshot is None or pool_map is None:
            raise NotFound("There is no map yet: it is drawn after the first round.")

        def render() -> bytes:
            project = self._store.project(project_id)
            annotations = self._store.annotations(project_id)
            classes = shown_classes(read_control(project), annotations)
            labels = current_labels(self._store, project_id, annotations, classes)
            records = self._rounds.read(self._store, project_id, state.newest_round)
            rounds = {
                task: number for task, number in labelled_in(annotations, records).items() if task in labels
            }
            blind = _blind(project, records[-1] if records else None)
            return points.colours(snapshot, pool_map, classes, labels, rounds, blind)

        return self._fresh(render, state, versions)

    # --- crops

    def crop(self, project_id: int, task_id: int) -> Response:
        """Send a crop's thumbnail, a larger one for `?size=large`, or the beginning of its text."""
        self._require(project_id)
        tasks = self._store.tasks(project_id, [task_id]) if task_id <= LARGEST_ID else []
        if not tasks:
            raise NotFound(f"Project {project_id} has no task {task_id}.")
        if tasks[0].problem is not None:
            raise NotFound(tasks[0].problem)
        text = label_config.text_of(tasks[0].image_url or "")
        if text is not None:
            return Response(text[:TEXT_SHOWN], content_type="text/plain; charset=utf-8")
        try:
            sizes = self._large if request.args.get("size") == "large" else self._thumbnails
            content = sizes.get(project_id, tasks[0])
        except ImageError as error:
            raise NotFound(str(error)) from error
        except BusyError:
            answer = make_response("", 503)
            answer.headers["Retry-After"] = "1"
            return answer
        answer = make_response(content)
        answer.content_type = "image/webp"
        answer.cache_control.private = True
        answer.cache_control.max_age = 3600
        return answer

    def _texts(self, project_id: int, task_ids: Iterable[int]) -> dict[int, str]:
        """Return the beginning of the text of each text crop."""
        return {
            task.id: text[:TEXT_SHOWN]
            for task in self._store.tasks(project_id, task_ids)
            if (text := label_config.text_of(task.image_url or "")) is not None
        }

    def task_address(self, project_id: int, task_id: int | None = None) -> str:
        """Return the address of a task, or of the project, in Label Studio, as a browser sees it."""
        base = f"{self._settings.label_studio_browser_url}/projects/{project_id}/data"
        return base if task_id is None else f"{base}?task={task_id}"

    # --- what all of them need

    def _known(self, project_id: int) -> ProjectState:
        """Return the state of a known project: its crops are counted for it, 50 ms of a million."""
        state = self._store.state(project_id) if project_id <= LARGEST_ID else None
        if state is None:
            raise _unknown(project_id)
        return state

    def _require(self, project_id: int) -> None:
        """Check that a project is known, at the same cost however many crops it has."""
        if project_id > LARGEST_ID or self._store.project(project_id) is None:
            raise _unknown(project_id)

    def _fresh(self, render: Any, *depends_on: object) -> Response:
        """Render an answer unless the browser has it: the tag changes whenever what it depends on does."""
        tag = hashlib.sha256(repr((self._edition, depends_on)).encode()).hexdigest()[:32]
        if request.if_none_match.contains(tag):
            answer = Response(status=304)
        else:
            content = render()
            answer = make_response(content)
            if isinstance(content, bytes):
                answer.content_type = "application/octet-stream"
        answer.set_etag(tag)
        answer.cache_control.private = True
        answer.cache_control.no_cache = True
        return answer

    def _http_error(self, error: HTTPException) -> Response:
        if not wants_html():
            # As every other route tells its failures.
            answer = make_response({"error": error.description or ""}, error.code or 500)
        else:
            answer = make_response(
                render_template("page/error.html", error=error, settings=self._settings),
                error.code or 500,
            )
        return answer


def _unknown(project_id: int) -> NotFound:
    return NotFound(
        f"This backend does not know project {project_id}. Run: everylabel connect --project {project_id}"
    )


def _guard(answer: Response) -> Response:
    answer.headers.update(HEADERS)
    return answer


def _edition() -> str:
    """Return a digest of all the page's parts: what a browser caches of another version is not shown."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.*")):
        if path.suffix in {".html", ".css", ".js", ".py"}:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _percent(share: float) -> str:
    """Format 0.874 as `87`; never 100 unless all is right."""
    return f"{min(99.0, share * 100) if share < 1 else 100:.0f}"


def _points(share: float) -> str:
    """Format 0.0123 as `1.2` points."""
    return f"{share * 100:.1f}"


def _iso(seconds: float) -> str:
    """Format seconds since the epoch as a browser reads them."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _sentence(text: str) -> str:
    """Turn a stored reason into a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def _blind(project: Project | None, latest: RoundRecord | None) -> tuple[int, ...]:
    """Return the tasks whose prediction is not shown until they are labelled: the check set and the spot check."""
    check = project.check_tasks if project else ()
    return (*check, *(latest.spot_check if latest else ()))
