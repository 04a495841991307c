"""Pages of other sites in a real Chromium, and one whose name leads to the backend: what they reach of it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from werkzeug.serving import make_server

from everylabel.backend.app import create_app
from tests.backend_fixtures import (  # noqa: F401
    encoder,
    make_services,
    services,
    stand_in,
)

FORM = b"""<!doctype html><form method="post" enctype="text/plain" action="ACTION">
<input name='{"action": "START_TRAINING", "project": {"id": 1}, "x": "' value='"}'></form>"""
LOGIN = {"username": "ann", "password": "s3cret"}


@pytest.fixture
def serve(make_services):  # noqa: F811
    """Starts a backend on loopback; gives its services and its port."""
    servers = []

    def start(**given):
        made = make_services(**given)
        server = make_server("127.0.0.1", 0, create_app(made), threaded=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
        return made, server.server_port

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture
def foreign():
    """A site on a port of its own that shows a form; gives its port, and takes where the form goes."""

    class Site(BaseHTTPRequestHandler):
        action = ""

        def do_GET(self):
            body = FORM.replace(b"ACTION", Site.action.encode())
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
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
    made, port = serve(basic_auth_user="ann", basic_auth_pass="s3cret", allowed_hosts="backend.example")
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
    made, port = serve()
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
