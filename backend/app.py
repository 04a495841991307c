"""The Flask routes of the ML-backend protocol, exactly as Label Studio 1.23.2 calls them."""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import OperationalError
from werkzeug.datastructures import Authorization
from werkzeug.exceptions import HTTPException

from everylabel.backend.auth import DELIVERY_ROUTES, Access, access
from everylabel.backend.bootstrap import Backend
from everylabel.backend.browser_guard import READING, is_foreign, is_known_host, unknown_host
from everylabel.backend.classify import (
    TO_SEND,
    CropClassifier,
    NotYetError,
    SentCrops,
    UnknownProjectError,
    crops_in,
    require_few,
)
from everylabel.backend.embedding.embeddings import EncoderError
from everylabel.backend.label_studio import webhooks
from everylabel.backend.label_studio.label_config import LabelConfigError
from everylabel.backend.label_studio.request_bodies import BodyError, PredictBody, SetupBody, json_object
from everylabel.backend.metrics import health
from everylabel.backend.ml_backend import ActiveLearningBackend
from everylabel.backend.openapi import DESCRIPTION
from everylabel.backend.page.label_routes import LabelRoutes
from everylabel.backend.page.routes import Page
from everylabel.backend.page_token import HEADER, PageToken
from everylabel.backend.settings import Settings
from everylabel.backend.store import StorageError

log = logging.getLogger(__name__)

OPEN_ROUTES = {"/health"}
CLASSIFY = "/projects/<int:project_id>/classify"
"""A program posts pictures to it, and nothing changes: it needs no token of the page."""


def create_app(backend: Backend) -> Flask:
    """Make the web application of a backend, which answers from the store and never trains."""
    app = Flask("everylabel")
    app.config["MAX_CONTENT_LENGTH"] = int(backend.settings.max_request_megabytes * 1024 * 1024)
    app.json.sort_keys = False  # type: ignore[attr-defined]

    _let_in(app, backend.settings)
    _add_page(app, backend)

    @app.get("/health")
    def liveness() -> Any:
        return jsonify(health(backend.heartbeat))

    @app.post("/setup")
    def setup() -> Any:
        body = SetupBody.read(_body())
        project = ActiveLearningBackend(body.project, body.label_config, backend)
        return jsonify({"model_version": project.model_version})

    @app.post("/predict")
    def predict() -> Any:
        sent = _body()
        if sent.get("tasks") == []:
            return jsonify({"results": []})
        body = PredictBody.read(sent)
        project = ActiveLearningBackend(body.project, body.label_config, backend)
        return jsonify({"results": project.predict(body.tasks, context=body.params.context)})

    @app.post("/webhook")
    def webhook() -> Any:
        body = webhooks.read(_body())
        project = ActiveLearningBackend(body.project.id, parts=backend)
        return jsonify(project.receive(body)), 201

    @app.get("/versions")
    def versions() -> Any:
        # Label Studio's GET names no project.
        found = [
            ActiveLearningBackend(project.id, parts=backend).model_version
            for project in backend.store.projects()
        ]
        return jsonify({"versions": sorted(set(found)), "message": None})

    @app.get("/openapi.json")
    def openapi() -> Any:
        return jsonify(DESCRIPTION)

    @app.get("/metrics")
    def metrics() -> Any:
        return Response(backend.metrics.render(), content_type=CONTENT_TYPE_LATEST)

    _classify_crops(app, backend)
    _answer_errors(app)
    return app


def _classify_crops(app: Flask, backend: Backend) -> None:
    """Register the route that programs post pictures and texts to."""
    classifier = CropClassifier(backend)

    @app.post(CLASSIFY)
    def classify(project_id: int) -> Any:
        """Classify up to 16 crops with a project's model: pictures or texts in JSON, or pictures as multipart/form-data."""
        with classifier.admitted():
            return jsonify(classifier.classify(project_id, _sent_crops()))


def _sent_crops() -> SentCrops:
    """Return the crops that a request sends."""
    if request.mimetype != "multipart/form-data":
        return crops_in(_body())
    files = [file for _, file in request.files.items(multi=True)]
    if not files:
        raise BodyError(
            "The form has no file. Send pictures as files (curl -F images=@a.jpg), and texts as JSON: "
            f"{TO_SEND['text']}"
        )
    require_few(len(files))
    return SentCrops("image", [file.read() for file in files])


def _add_page(app: Flask, backend: Backend) -> None:
    """Register the page for people, and the routes that they label by."""
    pool_files = backend.labelling.pool_files
    page = Page(backend.settings, backend.store, backend.files, pool_files, backend.reader, backend.heartbeat)
    LabelRoutes(backend.settings, backend.store, backend.labelling, page.task_address).add_to(page.blueprint)
    app.register_blueprint(page.blueprint)


def _let_in(app: Flask, settings: Settings) -> None:
    """Register the checks that refuse a request before a route sees it."""
    token = PageToken(settings.model_dir)
    app.add_template_global(lambda: token.value, "page_token")

    @app.before_request
    def authenticate() -> Response | None:
        if is_foreign(settings, request):
            # A browser keeps the login and sends it along, whichever page asks.
            return _refusal(403, "A page of another site sent this. Open this backend's own page instead.")
        if request.path in OPEN_ROUTES:
            return None
        reach = access(settings, _login())
        delivers = request.path in DELIVERY_ROUTES and reach >= Access.DELIVERY
        # A rebound page has no key: a browser keeps those by name. So Label Studio may use a name we do not know.
        if not is_known_host(settings, request.host) and not (delivers and settings.has_auth):
            return _refusal(421, unknown_host(request.host))
        return None if delivers else _refuse_person(reach, token)


def _refuse_person(reach: Access, token: PageToken) -> Response | None:
    """Return the refusal of a request for a route meant for people, or None if it may pass."""
    if reach is Access.NONE:
        answer = _refusal(
            401,
            "This backend asks for a user name and password, or a secret. Run `everylabel connect` again.",
        )
        answer.headers["WWW-Authenticate"] = 'Basic realm="everylabel"'
        return answer
    if reach is Access.DELIVERY:
        return _refusal(
            403, "This is the key that Label Studio delivers with. Sign in with the one for people."
        )
    if _writes_for_a_person() and not token.is_shown(request.headers.get(HEADER)):
        return _refusal(403, "The page that sent this has no token, or an old one. Load it again.")
    return None


def _answer_errors(app: Flask) -> None:
    """Answer every failure with JSON that holds its reason; Label Studio shows the status line."""

    @app.errorhandler(BodyError)
    @app.errorhandler(LabelConfigError)
    def bad_request(error: ValueError) -> Response:
        return _refusal(400, str(error))

    @app.errorhandler(UnknownProjectError)
    def unknown(error: UnknownProjectError) -> Response:
        return _refusal(404, str(error))

    @app.errorhandler(NotYetError)
    def not_yet(error: NotYetError) -> Response:
        return _refusal(503 if error.busy else 409, str(error))

    @app.errorhandler(StorageError)
    @app.errorhandler(EncoderError)
    def not_kept(error: Exception) -> Response:
        log.error("%s", error)
        return _refusal(503, str(error))

    @app.errorhandler(OperationalError)
    def no_database(error: OperationalError) -> Response:
        log.error("%s %s: the database fails (%s)", request.method, request.path, error.orig)
        return _refusal(
            503, "The backend's database accepts nothing at the moment; the backend's log says why."
        )

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        return _refusal(error.code or 500, error.description or "")

    @app.errorhandler(Exception)
    def failure(error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return _refusal(500, "Something failed that should not have; the backend's log says what.")


def _writes_for_a_person() -> bool:
    """Return whether a request changes something and may come from a browser that was tricked into sending it."""
    login = _login()
    by_hand = login is not None and login.type == "bearer"  # no browser sends that by itself
    changes = request.url_rule is not None and request.url_rule.rule != CLASSIFY
    return changes and request.method not in READING and not by_hand


def _login() -> Authorization | None:
    """Return the credentials that a request carries, if they can be read."""
    try:
        return request.authorization
    except ValueError:  # no base64 at all, which werkzeug does not expect
        return None


def _body() -> dict[str, Any]:
    return json_object(request.get_data())


def _refusal(code: int, why: str) -> Response:
    answer = jsonify({"error": why})
    # Label Studio shows a backend's status line to the person who connects it, and drops the body.
    answer.status = f"{code} {_one_line(why)}"
    return answer


def _one_line(text: str) -> str:
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.encode("latin-1", "replace").decode("latin-1").split())[:300] or "Error"
