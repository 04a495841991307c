"""The Label Studio client: every way it can fail has its own clear message, and no message holds the token."""

from __future__ import annotations

import json
import socket
import time
from datetime import datetime
from email.utils import formatdate
from typing import Any

import httpx
import jwt
import pytest

from everylabel.backend.label_studio.client import PAGE_SIZE, LabelStudio
from everylabel.backend.label_studio.errors import (
    BackendUnreachableError,
    LabelStudioError,
    LabelStudioUnreachableError,
    ProjectNotFoundError,
    TokenRefusedError,
)

TOKEN = "5ec2e7" * 6
URL = "http://labels.example"


def pat(seconds: float = 3600, kind: str = "refresh") -> str:
    """A personal access token as Label Studio makes it: a JWT."""
    return jwt.encode(
        {"token_type": kind, "exp": time.time() + seconds, "jti": "x"}, "k" * 32, algorithm="HS256"
    )


def client(answer: Any, token: str = TOKEN, url: str = URL) -> LabelStudio:
    handle = answer if callable(answer) else lambda _: answer
    return LabelStudio(url, token, transport=httpx.MockTransport(handle))


FAILURES = [
    (
        httpx.Response(401, json={"detail": "Invalid token."}),
        TokenRefusedError,
        r"\(401\).*LABEL_STUDIO_API_KEY",
    ),
    (httpx.Response(403, json={"detail": "No permission"}), TokenRefusedError, r"\(403\)"),
    (
        httpx.Response(
            403, json={"detail": "URL resolves to a reserved network address (block: 127.0.0.0/8)"}
        ),
        LabelStudioError,
        "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false",
    ),
    (httpx.Response(404, json={"detail": "Not found."}), ProjectNotFoundError, "/projects/<number>/"),
    (
        httpx.Response(301, headers={"location": "https://labels.example/x"}),
        LabelStudioError,
        "redirects .* to https://labels.example/x. Set LABEL_STUDIO_URL",
    ),
    (httpx.Response(200, text="<html>Welcome</html>"), LabelStudioError, "not Label Studio's JSON"),
    (httpx.Response(200, json=["not", "a", "project"]), LabelStudioError, "not Label Studio's JSON"),
    (
        httpx.Response(
            400, json={"detail": "Validation error", "validation_errors": {"title": ["too long"]}}
        ),
        LabelStudioError,
        r"\(400\): Validation error; title: too long",
    ),
    (httpx.Response(502, text="<h1>Bad gateway</h1>"), LabelStudioError, r"\(502\)"),
    (
        httpx.Response(
            400,
            json={
                "detail": "Validation error",
                "validation_errors": {
                    "non_field_errors": ["Can't connect to ML backend http://x:9090, health check failed."]
                },
            },
        ),
        BackendUnreachableError,
        r"`everylabel serve`, and set EVERYLABEL_PUBLIC_URL .* http://x:9090",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "told"), FAILURES)
def test_each_failure_has_its_own_message(answer, kind, told):
    with pytest.raises(kind, match=told) as caught:
        client(answer).project(7)
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(caught.getrepr(style="short"))


@pytest.mark.parametrize("status", [400, 502])
def test_a_page_of_a_proxy_is_told_in_words_and_not_in_html(status):
    page = "<!DOCTYPE html>\n<html><head><title>nginx</title></head><body>Sorry</body></html>"
    with pytest.raises(LabelStudioError) as caught:
        client(httpx.Response(status, text=page)).project(7)
    assert "<" not in str(caught.value)
    assert str(caught.value).endswith(httpx.codes(status).name.replace("_", " ").title())


def test_json_of_another_service_is_told_apart_everywhere():
    for call in ("projects", "version"):
        with pytest.raises(LabelStudioError, match="not Label Studio's JSON"):
            getattr(client(httpx.Response(200, json=[])), call)()
    other = client(httpx.Response(200, json={"hello": "world"}))
    for use in (other.projects, lambda: list(other.tasks(7)), lambda: other.webhooks(7)):
        with pytest.raises(LabelStudioError, match="not Label Studio's JSON"):
            use()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx.ConnectTimeout("slow"), "did not answer in time"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.ReadError("reset"), "does not answer"),
        (httpx.RemoteProtocolError("half an answer"), "does not answer"),
    ],
)
def test_a_server_that_does_not_answer_is_named_with_its_address(error, told):
    def fail(request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(LabelStudioUnreachableError, match=told) as caught:
        client(fail).project(7)
    assert URL in str(caught.value)


def test_a_refused_connection_is_named_and_what_may_have_arrived_is_not_sent_twice():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(LabelStudioUnreachableError, match="Is it running"):
        LabelStudio(url, TOKEN).project(7)

    sent = []

    def lost(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        raise httpx.ReadTimeout("the answer was lost")

    with pytest.raises(LabelStudioUnreachableError):
        client(lost).import_predictions(7, [{"task": 1}])
    assert len(sent) == 1


def test_a_restart_of_label_studio_is_waited_out():
    attempts = []

    def starting(request: httpx.Request) -> httpx.Response:
        attempts.append(request)
        if len(attempts) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"id": 7})

    assert client(starting).project(7) == {"id": 7}


def test_without_a_token_nothing_is_sent_and_the_way_out_is_named():
    sent: list[httpx.Request] = []
    with pytest.raises(TokenRefusedError, match="Account & Settings"):
        client(sent.append, token="").project(7)
    assert sent == []


def test_a_legacy_token_is_sent_as_it_is():
    seen = []
    client(lambda r: seen.append(r.headers["authorization"]) or httpx.Response(200, json={})).project(7)
    assert seen == [f"Token {TOKEN}"]


class Exchange:
    """Label Studio's side of personal access tokens; each access token lives `seconds`."""

    def __init__(self, refresh: str, seconds: float = 300) -> None:
        self.refresh, self.seconds = refresh, seconds
        self.exchanged = 0
        self.paths: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        if request.url.path.endswith("/api/token/refresh/"):
            if json.loads(request.content) != {"refresh": self.refresh}:
                return httpx.Response(401, json={"detail": "Token is invalid"})
            self.exchanged += 1
            return httpx.Response(200, json={"access": pat(self.seconds, "access")})
        scheme, _, key = request.headers["authorization"].partition(" ")
        access = jwt.decode(key, options={"verify_signature": False})["token_type"] == "access"
        return httpx.Response(200 if scheme == "Bearer" and access else 401, json={"id": 7})


def test_a_personal_access_token_is_exchanged_once_and_never_sent_itself():
    exchange = Exchange(pat())
    label_studio = client(exchange, exchange.refresh)
    assert label_studio.project(7) == label_studio.project(7) == {"id": 7}
    assert exchange.exchanged == 1


def test_an_access_token_that_ran_out_is_renewed():
    exchange = Exchange(pat(), seconds=-1)
    label_studio = client(exchange, exchange.refresh)
    label_studio.authorization()
    exchange.seconds = 300
    assert label_studio.project(7) == {"id": 7}
    assert exchange.exchanged == 2


def test_a_path_before_label_studio_is_kept_for_the_exchange_too():
    exchange = Exchange(pat())
    client(exchange, exchange.refresh, "http://labels.example/annotate").project(7)
    assert exchange.paths == ["/annotate/api/token/refresh/", "/annotate/api/projects/7/"]


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (httpx.Response(401, json={"detail": "blacklisted"}), TokenRefusedError, r"\(401\)"),
        (httpx.Response(404, json={"detail": "no such route"}), LabelStudioError, "did not exchange"),
        (httpx.Response(200, text="<html>"), LabelStudioError, "not Label Studio's JSON"),
        (httpx.Response(302, headers={"location": "/"}), LabelStudioError, "not Label Studio's JSON"),
        (httpx.Response(200, json={"hello": 1}), LabelStudioError, "not Label Studio's JSON"),
    ],
)
def test_an_exchange_that_fails_is_told_and_holds_no_token(answer, kind, told):
    token = pat()
    with pytest.raises(kind, match=told) as caught:
        client(answer, token).project(7)
    assert token not in str(caught.value)


def test_an_expired_personal_access_token_is_refused_before_anything_is_sent():
    with pytest.raises(TokenRefusedError, match="personal access token"):
        client(Exchange(""), pat(-1)).project(7)


class Pages:
    """Tasks as Label Studio answers for them: by id, those after the one asked for."""

    def __init__(self, ids, then_delete=None):
        self.ids, self.asked, self._then_delete = list(ids), [], then_delete

    def __call__(self, request: httpx.Request) -> httpx.Response:
        size, page = int(request.url.params["page_size"]), int(request.url.params["page"])
        items = json.loads(request.url.params.get("query", "{}")).get("filters", {}).get("items", [])
        after = next((i["value"] for i in items if i["filter"] == "filter:tasks:id"), 0)
        self.asked.append((page, after))
        left = [id_ for id_ in self.ids if id_ > after]
        if self._then_delete in self.ids:
            self.ids.remove(self._then_delete)
        shown = left[(page - 1) * size : page * size]
        if not shown and page > 1:
            return httpx.Response(404, json={"detail": "Invalid page."})
        return httpx.Response(200, json={"tasks": [{"id": id_} for id_ in shown], "total": len(left)})


@pytest.mark.parametrize("annotated", [False, True])
def test_pages_are_read_to_the_last_and_not_beyond(annotated):
    pages = Pages(range(1, 2 * PAGE_SIZE + 2))
    progress: list[tuple[int, int]] = []
    read = client(pages).tasks(
        7, annotated=annotated, progress=lambda done, total: progress.append((done, total))
    )
    assert [task["id"] for task in read] == pages.ids
    assert pages.asked == [(1, 0), (1, PAGE_SIZE), (1, 2 * PAGE_SIZE)]
    assert progress == [(n, len(pages.ids)) for n in (PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE + 1)]


@pytest.mark.parametrize("annotated", [False, True])
def test_a_task_deleted_while_pages_are_read_hides_no_other(annotated):
    pages = Pages(range(1, 2 * PAGE_SIZE + 2), then_delete=3)
    found = [task["id"] for task in client(pages).tasks(7, annotated=annotated)]
    assert found == list(range(1, 2 * PAGE_SIZE + 2))


def test_a_label_studio_that_does_not_go_on_where_it_ended_is_told():
    same = httpx.Response(200, json={"tasks": [{"id": 5}], "total": 2})
    with pytest.raises(LabelStudioError, match="asked for those after 5"):
        list(client(same).tasks(7))


def test_when_nothing_is_left_to_label_there_is_no_next_task():
    assert client(httpx.Response(404, json={"detail": "No more tasks"})).next_task(7) is None
    with pytest.raises(LabelStudioError, match="not Label Studio's JSON"):
        client(httpx.Response(200, text="<html>")).next_task(7)


def test_many_predictions_go_in_bounded_writes():
    sizes = []

    def take(request: httpx.Request) -> httpx.Response:
        sizes.append(len(json.loads(request.content)))
        return httpx.Response(201, json={"created": sizes[-1]})

    client(take).import_predictions(7, [{"task": i} for i in range(2500)])
    assert sum(sizes) == 2500
    assert max(sizes) <= 1000


@pytest.mark.parametrize(("date", "behind"), [(True, 600.0), (False, 0.0)])
def test_changes_are_asked_for_by_label_studios_own_clock(date, behind):
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        if "query" in request.url.params:
            asked.append(json.loads(request.url.params["query"])["filters"]["items"][0]["value"])
        headers = {"date": formatdate(time.time() - 600, usegmt=True)} if date else {}
        return httpx.Response(200, json={"tasks": [], "total": 0}, headers=headers)

    label_studio = client(answer)
    label_studio.project(1)  # what tells the time
    since = time.time()
    assert list(label_studio.tasks(1, changed_since=since)) == []
    found = datetime.fromisoformat(asked[0].replace("Z", "+00:00")).timestamp()
    assert found == pytest.approx(since - behind, abs=5)
