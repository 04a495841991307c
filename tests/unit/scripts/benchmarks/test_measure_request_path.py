"""A backend written with label-studio-ml is asked as Label Studio asks, and what it answers is counted."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from types import SimpleNamespace

import httpx
import pytest

from everylabel.scripts.benchmarks import measure_request_path
from everylabel.scripts.benchmarks.measure_request_path import RequestPath, measure


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""


@pytest.fixture
def asked(monkeypatch):
    """Requests to a backend that answers every task, and how many answers it leaves out."""
    seen = SimpleNamespace(requests=[], missing=0)

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        seen.requests.append((request.url.path, body))
        results = [{"result": [], "score": 0.5} for _ in body.get("tasks", [])]
        return httpx.Response(200, json={"results": results[seen.missing :], "model_version": "1"})

    seen.client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://backend")
    return seen


def test_tasks_come_in_pages_each_after_a_setup_as_label_studio_sends_them(asked):
    tasks = measure_request_path._tasks([f"http://host/{i}.jpg" for i in range(7)])
    found = measure_request_path._fastest("a backend", asked.client, tasks, 3, 2)
    assert (found.tasks, found.page) == (7, 3)
    assert found.tasks_per_second == 7 / found.seconds
    assert [path for path, _ in asked.requests] == ["/setup", "/predict"] * 6
    pages = [[task["id"] for task in body["tasks"]] for path, body in asked.requests if path == "/predict"]
    assert pages == [[1, 2, 3], [4, 5, 6], [7]] * 2
    body = asked.requests[1][1]
    assert set(body) == {"tasks", "project", "label_config", "params"}
    assert body["tasks"][0]["data"] == {"image": "http://host/0.jpg"}


def test_a_backend_that_leaves_tasks_out_is_no_measurement(asked):
    asked.missing = 1
    with pytest.raises(RuntimeError, match="answered 2 of 3"):
        measure_request_path._ask(asked.client, measure_request_path._tasks(["a", "b", "c"]))


def test_images_are_served_on_this_machine(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    with measure_request_path._images(tmp_path) as host:
        connection = HTTPConnection(host.removeprefix("http://"))
        connection.request("GET", "/a.jpg")
        assert connection.getresponse().read() == b"picture"
        connection.close()


@pytest.mark.parametrize(("version", "usable"), [("2.0.1.dev0", True), ("1.0.9", False), (None, False)])
def test_only_the_protocol_of_today_is_measured(version, usable, monkeypatch):
    def installed(name):
        if version is None:
            raise measure_request_path.PackageNotFoundError
        return version

    monkeypatch.setattr(measure_request_path, "version", installed)
    assert measure_request_path.installed() is usable


def test_a_backend_that_does_not_start_is_named_with_what_it_said(tmp_path):
    with (
        pytest.raises(RuntimeError, match="did not start"),
        measure_request_path._backend("no such backend", tmp_path, "http://127.0.0.1:9"),
    ):
        pass


@pytest.mark.skipif(not measure_request_path.installed(), reason="label-studio-ml 2.x is not installed")
def test_label_studio_mls_own_server_answers_at_once_and_with_embeddings():
    found = measure(silent, pages=(1, 4), tasks=(2, 8), repeats=1)
    paths = [
        RequestPath(path["name"], path["page"], path["tasks"], path["seconds"]) for path in found["paths"]
    ]
    assert [(path.name, path.page, path.tasks) for path in paths] == [
        (name, page, tasks)
        for name in ("answers at once", "fetches and encodes", "encodes images fetched before")
        for page, tasks in ((1, 2), (4, 8))
    ]
    assert found["version"].startswith("2.")
    assert all(path["tasks_per_second"] > 0 for path in found["paths"])
