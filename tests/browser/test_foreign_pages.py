"""Pages of other sites in a real Chromium, and one whose name leads to the backend: what they reach of it."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from flask import request
from werkzeug.serving import make_server

from everylabel.backend.app import create_app
from everylabel.backend.browser_guard import READING
from everylabel.backend.page.label_routes import COOKIE
from tests.backend_fixtures import (  # noqa: F401
    digit_crops,
    encoder,
    make_services,
    project,
    services,
    stand_in,
)
from tests.everylabel_process import wait_until

FORM = b"""<!doctype html><form method="post" enctype="text/plain" action="ACTION">
<input name='{"action": "START_TRAINING", "project": {"id": 1}, "x": "' value='"}'></form>"""
LOGIN = {"username": "ann", "password": "s3cret"}
BODY = """{"action": "START_TRAINING", "project": {"id": 1}, "token": "bobs-token", "kind": "class", "tasks": [1],
    "labels": {"1": "0"}, "seconds": 9, "pages": [], "images": [], "label_config": "<View/>"}"""
GIVEN = {"<int:project_id>": "1", "<string:page_id>": "0" * 32}
"""What stands in the place of a route's variables."""
WAYS = """async ([address, body]) => {
    const frame = document.createElement("iframe");
    frame.name = "taken" + Math.random();
    document.body.append(frame);
    for (const enctype of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) {
        const form = document.createElement("form");
        const field = document.createElement("input");
        Object.assign(field, {name: body.slice(0, -1) + ', "x": "', value: '"}', type: "hidden"});
        Object.assign(form, {action: `${address}?${enctype}`, method: "post", target: frame.name, enctype});
        form.append(field);
        document.body.append(form);
        const loaded = new Promise(done => frame.addEventListener("load", done, {once: true}));
        form.submit();
        await loaded;
    }
    navigator.sendBeacon(`${address}?beacon`, body);
    const readable = [];
    for (const [way, given] of Object.entries({
        "no-cors": {mode: "no-cors", body},
        "multipart": {mode: "no-cors", body: new FormData()},
        "cors": {body, headers: {"Content-Type": "text/plain"}},
        "json": {body, headers: {"Content-Type": "application/json", "X-Everylabel-Token": "0".repeat(64)}},
        "put": {method: "PUT", body},
    })) {
        const sent = fetch(`${address}?${way}`, {method: "POST", credentials: "include", ...given});
        const answer = await sent.catch(() => null);
        if (answer && answer.type !== "opaque") readable.push(way);
    }
    return readable;
}"""
ASK = """async ([path, method, body, token]) => (await fetch(path, {method, body, headers: {
    "Content-Type": "application/json", "X-Everylabel-Token": token}})).status"""
"""What a script of our own page does."""
SENT = {
    *("text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "beacon"),
    *("no-cors", "multipart", "cors"),
}
"""The ways by which a browser sends what is asked of it without asking the server first."""


@pytest.fixture
def serve(make_services):  # noqa: F811
    """Starts a backend on loopback; gives its services, its port and its app."""
    servers = []

    def start(**given):
        made = make_services(**given)
        app = create_app(made)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return made, server.server_port, app

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def foreign():
    """A site on a port of its own that shows a form; gives its port, and takes where the form goes."""

    class Site(BaseHTTPRequestHandler):
        action, policy = "", "origin"

        def do_GET(self):
            body = FORM.replace(b"ACTION", Site.action.encode())
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Referrer-Policy", Site.policy)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], Site
    server.shutdown()


@pytest.fixture(scope="module")
def named(launch):
    """A Chromium for which names outside lead to this machine: plain http, and no loopback to its eyes."""
    return launch("--host-resolver-rules=MAP *.example 127.0.0.1")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "backend.example"])
@pytest.mark.parametrize("site", ["127.0.0.1", "localhost", "evil.example"])
def test_a_form_of_another_page_is_refused_though_the_browser_knows_the_login(
    serve, foreign, named, name, site
):
    made, port, _ = serve(basic_auth_user="ann", basic_auth_pass="s3cret", allowed_hosts="backend.example")
    foreign_port, page = foreign
    context = named.new_context(http_credentials=LOGIN)
    tab = context.new_page()
    assert tab.goto(f"http://{name}:{port}/").status == 200, "signed in"
    page.action = f"http://{name}:{port}/webhook"
    tab.goto(f"http://{site}:{foreign_port}/")
    with tab.expect_navigation() as sent:
        tab.evaluate("document.forms[0].submit()")
    assert sent.value.status == 403
    assert made.store.events() == []
    context.close()


def test_a_page_whose_name_is_turned_to_the_backend_reads_nothing_and_writes_nothing(serve, named):
    """On loopback without a password: the page is of the backend's origin, for the browser."""
    made, port, _ = serve()
    tab = named.new_page()
    assert tab.goto(f"http://evil.example:{port}/").status == 421
    post = """async () => (await fetch("/webhook", {method: "POST",
        body: JSON.stringify({action: "START_TRAINING", project: {id: 1}})})).status"""
    read = "async () => (await fetch('/versions')).status"
    assert tab.evaluate(post) == 421
    assert tab.evaluate(read) == 421
    assert made.store.events() == []
    tab.goto(f"http://127.0.0.1:{port}/")
    assert tab.evaluate(post) == 201, "as our own page may"
    assert len(made.store.events()) == 1


def writing(app):
    """Every path that takes more than reading, whichever routes there are."""
    found = [rule.rule for rule in app.url_map.iter_rules() if rule.methods - READING]
    for variable, given in GIVEN.items():
        found = [rule.replace(variable, given) for rule in found]
    assert not [rule for rule in found if "<" in rule], "a new variable of a route: add it to GIVEN"
    return found


def kept(folder):
    """Everything that the databases hold."""
    held = {}
    for path in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(path)) as database:
            held[path.name] = list(database.iterdump())
    assert held
    return held


def recorded(app):
    """What the app is asked from now on, and its answers."""
    seen = []

    @app.after_request
    def record(answer):
        way = request.query_string.decode()
        seen.append((request.method, request.path, way, answer.status_code, COOKIE in request.cookies))
        return answer

    return seen


@pytest.mark.parametrize(
    ("name", "site", "policy"),
    [
        ("127.0.0.1", "127.0.0.1", "origin"),
        ("127.0.0.1", "127.0.0.1", "no-referrer"),
        ("localhost", "evil.example", "origin"),
        ("backend.example", "evil.example", "no-referrer"),
        ("backend.example", "other.backend.example", "origin"),
    ],
)
def test_another_page_writes_by_no_route_though_the_person_is_signed_in(
    serve,
    foreign,
    named,
    name,
    site,
    policy,
    project,  # noqa: F811
    stand_in,  # noqa: F811
):
    stand_in.people |= {"anns-token": 7, "bobs-token": 8}
    login = {"basic_auth_user": "ann", "basic_auth_pass": "s3cret"} if "example" in name else {}
    made, port, app = serve(allowed_hosts="backend.example", **login)
    seen, routes = recorded(app), writing(app)
    foreign_port, page = foreign
    page.policy = policy
    context = named.new_context(http_credentials=LOGIN)
    tab = context.new_page()
    tab.goto(f"http://{name}:{port}/")
    token = tab.locator("meta[name=page-token]").get_attribute("content")
    assert tab.evaluate(ASK, ["/projects/1/label/sign-in", "POST", '{"token": "anns-token"}', token]) == 200
    before = kept(made.settings.model_dir)
    seen.clear()
    tab.goto(f"http://{site}:{foreign_port}/")
    for path in routes:
        assert tab.evaluate(WAYS, [f"http://{name}:{port}{path}", BODY]) == [], "an answer was readable"
    wait_until(lambda: {way for _, path, way, *_ in seen if path == routes[-1]} >= SENT, "the last of them")
    for path in routes:
        sent = [one for one in seen if one[1] == path and one[0] not in READING]
        assert {way for _, _, way, _, _ in sent} >= SENT, path
        assert {status for _, _, _, status, _ in sent} == {403}, sent
    if name == site or site.endswith(f".{name}"):
        assert any(cookie for *_, cookie in seen), "the browser sends the sign-in of the same site along"
    assert kept(made.settings.model_dir) == before
    tab.goto(f"http://{name}:{port}/")
    assert tab.evaluate(ASK, ["/projects/1/label/state", "GET", None, ""]) == 200, "still signed in"
    for path in routes:
        assert tab.evaluate(ASK, [path, "POST", BODY, token]) != 403, "our own page may"
    context.close()


def test_a_page_whose_name_is_turned_to_the_backend_reaches_no_route(serve, named, project):  # noqa: F811
    """It sends what it likes, for the browser takes it for our own page: any header, any method."""
    made, port, app = serve()
    context = named.new_context()
    tab = context.new_page()
    tab.goto(f"http://127.0.0.1:{port}/")
    token = tab.locator("meta[name=page-token]").get_attribute("content")
    before = kept(made.settings.model_dir)
    reading = {rule.rule for rule in app.url_map.iter_rules()} - {"/health"}
    for variable, given in {**GIVEN, "<int:task_id>": "1", "<path:filename>": "page.js"}.items():
        reading = {rule.replace(variable, given) for rule in reading}
    tab.goto(f"http://evil.example:{port}/")
    for path in sorted(reading):
        assert tab.evaluate(ASK, [path, "GET", None, token]) == 421, path
    for path in writing(app):
        assert tab.evaluate(ASK, [path, "POST", BODY, token]) == 421, path
    assert kept(made.settings.model_dir) == before
    context.close()
