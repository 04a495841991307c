"""The page's own scripts in a real Chromium: what they do when answers are late, refused or missing."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from playwright.sync_api import expect
from werkzeug.serving import make_server

from everylabel.backend.app import create_app
from everylabel.backend.store import pool_map, round_snapshot
from tests.backend_fixtures import (  # noqa: F401
    digit_crops,
    encoder,
    make_services,
    project,
    send,
    services,
    stand_in,
    teach,
)
from tests.everylabel_process import wait_until


@pytest.fixture
def taught(services, teach, monkeypatch):  # noqa: F811
    """Project 1 after 12 labels and a round, with a map; its trainer lives."""
    monkeypatch.setattr(services.heartbeat, "alive", lambda: True)
    teach(12)
    snapshot = round_snapshot.load(services.files(1).folder)
    pool_map.draw(
        services.files(1).folder, "rows", services.embeddings.read(1), np.flatnonzero(snapshot.tasks)
    )
    return services


@pytest.fixture
def backend(services):  # noqa: F811
    """The address of a backend without a trainer."""
    server = make_server("127.0.0.1", 0, create_app(services), threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.fixture
def tab(browser):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def looks(tab, path):
    """Wait until the page has asked again whether anything has changed."""
    with tab.expect_response(
        lambda answer: answer.url.endswith(path) and not answer.request.is_navigation_request()
    ):
        pass


def test_looking_again_and_again_leaves_nothing_behind(tab, backend, taught):
    tab.add_init_script(
        """
        const listen = document.addEventListener;
        window.listeners = 0;
        document.addEventListener = function (name, ...given) {
          if (name === "visibilitychange") window.listeners++;
          return listen.call(this, name, ...given);
        };
        """
    )
    tab.goto(f"{backend}/projects/1")
    for _ in range(3):
        looks(tab, "/projects/1")
    assert tab.evaluate("window.listeners") == 1
    tab.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    looks(tab, "/projects/1")


def test_a_project_that_is_not_there_is_an_answer_too(tab, backend, services, stand_in):  # noqa: F811
    tab.goto(f"{backend}/projects/1")
    for _ in range(2):
        looks(tab, "/projects/1")
    expect(tab.locator("h1")).to_have_text("Not Found")
    expect(tab.locator("#lost")).to_be_hidden()
    services.store.save_project(1, connected=True, title="born meanwhile")
    expect(tab.locator("h1")).to_have_text("born meanwhile")
    services.store.delete_project(1)
    expect(tab.locator("h1")).to_have_text("Not Found")
    tab.route("**/projects/1", lambda route: route.abort())
    expect(tab.locator("#lost")).to_be_visible()
    tab.unroute("**/projects/1")
    expect(tab.locator("#lost")).to_be_hidden()


ALL_THERE = """() => {
  for (const panel of document.querySelectorAll("[role=tabpanel]")) panel.hidden = false;
  for (const list of document.querySelectorAll(".gallery")) list.setAttribute("data-open", "");
  const pictures = [...document.querySelectorAll(".gallery img")];
  return pictures.length > 12 && pictures.every((i) => i.complete && (i.naturalWidth || i.matches(".missing")));
}"""


def test_one_viewer_never_asks_for_more_pictures_than_are_made_at_a_time(tab, backend, taught, monkeypatch):
    read = taught.reader.read
    monkeypatch.setattr(
        taught.reader, "read", lambda *given, **named: (time.sleep(0.2), read(*given, **named))[1]
    )
    refused = []
    tab.on("response", lambda answer: refused.append(answer.url) if answer.status == 503 else None)
    tab.set_viewport_size({"width": 1280, "height": 6000})
    tab.goto(f"{backend}/projects/1")
    tab.wait_for_function(ALL_THERE, timeout=30_000)
    assert refused == []
    assert tab.locator(".gallery img.missing").count() == 0


def test_a_picture_that_was_refused_comes_later(tab, backend, taught):
    seen = set()

    def refuse_once(route):
        if route.request.url in seen:
            return route.fallback()
        seen.add(route.request.url)
        return route.fulfill(status=503)

    tab.route("**/crops/*", refuse_once)
    tab.set_viewport_size({"width": 1280, "height": 6000})
    tab.goto(f"{backend}/projects/1")
    tab.wait_for_function(ALL_THERE, timeout=30_000)
    assert len(seen) > 12
    assert tab.locator(".gallery img.missing").count() == 0


def test_pictures_out_of_sight_are_not_asked_for(tab, backend, taught):
    asked = []
    tab.on("request", lambda request: asked.append(request.url) if "/crops/" in request.url else None)
    tab.set_viewport_size({"width": 1280, "height": 300})
    tab.goto(f"{backend}/projects/1")
    looks(tab, "/projects/1")
    assert asked == []
    last = tab.locator(".gallery img:visible").last
    last.scroll_into_view_if_needed()
    tab.wait_for_function("i => i.naturalWidth > 0", arg=last.element_handle())
    looks(tab, "/projects/1")
    assert last.get_attribute("src"), "looking again has taken it away"


def test_a_map_that_was_refused_once_is_drawn_without_anything_else_changing(tab, backend, taught):
    refused = []

    def refuse(route):
        refused.append(route.request.url)
        route.fulfill(status=503)

    tab.route("**/points", refuse, times=2)
    tab.goto(f"{backend}/projects/1")
    tab.locator("#map.drawn").wait_for(timeout=30_000)
    assert len(refused) == 2


def test_what_changes_while_the_map_is_fetched_is_fetched_too(tab, backend, stand_in, taught, send, project):  # noqa: F811
    held = []

    def hold(route):
        held.append(route)

    tab.route("**/colours", hold, times=1)
    tab.goto(f"{backend}/projects/1")
    first = tab.locator("#map").get_attribute("data-colours-version")
    wait_until(lambda: tab.evaluate("1") and held, "the map is not asked for")
    *_, task = project
    send(stand_in.annotate(task, project[task]))
    taught.loop.catch_up(1)
    expect(tab.locator("#labels-now")).to_have_text("13")
    expect(tab.locator("#map")).not_to_have_attribute("data-colours-version", first)
    (late,) = held
    late.continue_()
    # The newest: it may change once more, as the map is drawn.
    tab.wait_for_function(
        "() => window.everylabelMap.versions.wanted?.endsWith("
        "`|${document.getElementById('map').dataset.coloursVersion}`)",
        timeout=30_000,
    )
