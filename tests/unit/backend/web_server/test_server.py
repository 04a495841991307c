"""The web server under slow, silent and greedy clients; the application behind it is the real one."""

import asyncio
import json
import resource
import select
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import pytest

from everylabel.backend.app import create_app
from everylabel.backend.web_server.limits import Limits, affordable_connections
from everylabel.backend.web_server.server import Server
from tests.backend_fixtures import TOKEN
from tests.everylabel_process import EveryLabel, wait_until

HALF_A_HEADER = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-"
WEBHOOK = {"action": "START_TRAINING", "project": {"id": 1}}


@pytest.fixture
def serve(services):
    """Serves the backend's application within limits, on a port of its own; ends it with the test."""

    @contextmanager
    def serving(*, threads=4, **limits):
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        port = listener.getsockname()[1]
        server = Server(create_app(services), Limits(**{"linger_seconds": 1.0, **limits}), threads)
        wanted = threading.Event()
        wanted.set()
        thread = threading.Thread(target=lambda: asyncio.run(server.run([listener], 2048, wanted.is_set)))
        thread.start()
        server.port, server.wanted = port, wanted
        try:
            yield server
        finally:
            wanted.clear()
            thread.join(20)
            assert not thread.is_alive()

    return serving


def connect(server, sent=b""):
    client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    client.sendall(sent)
    return client


def post(path, body, *headers):
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def rest(client):
    """Everything that still comes, up to the end of the connection."""
    said = b""
    while True:
        try:
            chunk = client.recv(65536)
        except ConnectionResetError:
            return said
        if not chunk:
            return said
        said += chunk


def answers(server, body=None):
    """Whether a webhook is answered, on a connection of its own."""
    answer = httpx.post(f"http://127.0.0.1:{server.port}/webhook", json=body or WEBHOOK, timeout=20)
    return answer.status_code == 201


def is_open(client):
    readable, _, _ = select.select([client], [], [], 0)
    return not readable


# --- clients that keep somebody waiting


def test_the_served_backend_answers_a_webhook_while_hundreds_of_clients_keep_it_waiting(stand_in, tmp_path):
    """`everylabel serve` as people start it: gunicorn, its worker and all."""
    backend = EveryLabel(stand_in.url, TOKEN, tmp_path)
    backend.start()
    slow_body = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
    try:
        hanging = [
            connect(backend, sent)
            for sent, many in ((HALF_A_HEADER, 500), (slow_body, 200), (b"", 100))
            for _ in range(many)
        ]
        assert answers(backend)
        assert httpx.get(f"{backend.settings.public_url}/versions", timeout=20).is_success
        readable, _, _ = select.select(hanging[:500], [], [], 0)
        assert not readable, "they were answered or dropped before: this says nothing"
        for client in hanging:
            client.close()
    finally:
        backend.stop()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (HALF_A_HEADER, b"408 "),
        (b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{", b"408 "),
        (b"", b""),
    ],
)
def test_what_does_not_come_in_time_ends_the_connection(serve, sent, told):
    with serve(header_seconds=0.3, body_seconds=0.3) as server:
        said = rest(connect(server, sent))
        assert said[9:13] == told
        assert not told or b"did not come in time" in said
        wait_until(lambda: not server.connections, "its place is free")


def test_a_client_that_sends_a_byte_now_and_then_gets_no_more_time(serve):
    with serve(header_seconds=0.5) as server, connect(server, b"GET / HTTP/1.1\r\nHost: ") as client:
        started = time.monotonic()
        while is_open(client):
            client.sendall(b"x")
            time.sleep(0.02)
            assert time.monotonic() - started < 15, "it may go on for ever"
        assert rest(client).startswith(b"HTTP/1.1 408 ")


def test_a_new_client_takes_the_place_of_the_one_that_was_waited_for_longest(serve):
    with serve(connections=20) as server:
        hanging = [connect(server, HALF_A_HEADER) for _ in range(20)]
        wait_until(lambda: len(server.connections) == 20, "they are connected")
        assert answers(server)
        wait_until(lambda: not is_open(hanging[0]), "the oldest is dropped")
        assert all(map(is_open, hanging[2:]))


def test_a_client_that_does_not_read_its_answers_keeps_no_thread(serve):
    with serve(threads=1) as server:
        greedy = connect(server)
        greedy.setblocking(False)
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000

        def is_stuck():
            try:
                greedy.send(asked)
            except BlockingIOError:
                return True
            return False

        wait_until(is_stuck, "nothing more is read of it")
        url = f"http://127.0.0.1:{server.port}/versions"
        assert httpx.get(url, timeout=20).is_success
        greedy.close()


def test_an_answer_nobody_reads_ends_the_connection_at_last(serve):
    with serve(answer_seconds=0.3) as server:
        greedy = connect(server)
        threading.Thread(
            target=greedy.sendall,
            args=(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000,),
            daemon=True,
        ).start()
        wait_until(lambda: server.connections, "it is connected")
        wait_until(lambda: not server.connections, "it is dropped")


def test_a_webhook_does_not_wait_for_threads_that_are_busy(serve, stand_in, project):
    with serve(threads=1) as server:
        ids = stand_in.add_tasks(1, "data:image/png;base64,AAAA")
        body = {"tasks": [stand_in.plain(ids[0])], "project": "1.1", "label_config": None}
        predicting = connect(server, post("/predict", body))  # waits for a trainer that never comes
        waiting = connect(server, b"GET /versions HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answers(server)
        assert httpx.get(f"http://127.0.0.1:{server.port}/health", timeout=20).is_success
        assert is_open(predicting)
        assert is_open(waiting), "the only thread was free: this says nothing"
        for client in (predicting, waiting):
            client.close()


# --- what is too large


@pytest.mark.parametrize("framing", [b"Content-Length: 5000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_refused_before_it_has_come(serve, framing):
    with serve(body_bytes=100_000) as server:
        client = connect(server, b"POST /webhook HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
        if b"chunked" in framing:
            client.sendall(b"30D40\r\n" + b"x" * 0x30D40)  # 200,000 of them
        said = rest(client)
        assert said.startswith(b"HTTP/1.1 413 ")
        assert b"EVERYLABEL_MAX_REQUEST_MEGABYTES" in said
        assert answers(server)


def test_large_bodies_have_a_bound_in_sum_and_small_ones_come_through(serve):
    with serve(held_bytes=1_000_000, small_body_bytes=10_000) as server:
        large = [
            connect(server, post("/predict", {"x": "x" * size})[:-5]) for size in (400_000, 500_000, 300_000)
        ]
        assert rest(large[1]).startswith(b"HTTP/1.1 503 "), "the largest that has not come whole goes first"
        assert is_open(large[0])
        assert is_open(large[2])
        assert answers(server, {**WEBHOOK, "more": "x" * 5000})
        large[0].sendall(b'xxx"}')
        assert large[0].recv(100).startswith(b"HTTP/1.1 400 "), "read whole and answered by the application"


def test_a_header_that_is_too_long_is_refused(serve):
    with serve(header_bytes=10_000) as server:
        client = connect(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000)
        assert rest(client).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_refused(serve, sent):
    with serve(header_seconds=1.0) as server:
        assert rest(connect(server, sent))[9:12] in {b"400", b"408"}
        assert answers(server)


# --- what a request is to the application


def test_requests_follow_each_other_on_one_connection_and_may_come_together(serve, services):
    with serve() as server, connect(server, post("/webhook", WEBHOOK) * 2) as client:
        read = client.makefile("rb")
        for _ in range(2):
            assert read.readline().startswith(b"HTTP/1.1 201 ")
            while (line := read.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            assert json.loads(read.read(length)) == {"status": "queued"}
        client.sendall(post("/webhook", WEBHOOK, "Connection: close"))
        assert rest(client).startswith(b"HTTP/1.1 201 ")
    assert len(services.store.events(1)) == 3


def test_a_body_in_chunks_is_whole_for_the_application(serve, services):
    body = json.dumps(WEBHOOK).encode()
    with serve() as server:
        url = f"http://127.0.0.1:{server.port}/webhook"
        assert httpx.post(url, content=iter([body[:9], body[9:]]), timeout=20).status_code == 201
    assert [event.action for event in services.store.events(1)] == ["START_TRAINING"]


def test_a_client_that_waits_for_a_sign_to_go_on_gets_one(serve):
    body = json.dumps(WEBHOOK).encode()
    head = f"POST /webhook HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    with serve() as server, connect(server, head.encode()) as client:
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert client.recv(100).startswith(b"HTTP/1.1 201 ")


def test_head_and_wrong_methods_and_old_clients_are_answered(serve):
    with serve() as server:
        url = f"http://127.0.0.1:{server.port}"
        head = httpx.head(f"{url}/health", timeout=20)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
        assert httpx.get(f"{url}/webhook", timeout=20).status_code == 405
        assert httpx.options(f"{url}/webhook", timeout=20).is_success
        assert b'"UP"' in rest(connect(server, b"GET /health HTTP/1.0\r\n\r\n"))


def test_a_header_cannot_pass_for_another_by_an_underscore(serve, make_services):
    login = "Authorization: Basic YW5uOnMzY3JldA=="  # ann:s3cret
    app = create_app(make_services(basic_auth_user="ann", basic_auth_pass="s3cret"))
    with serve() as server:
        server.app = app
        assert rest(connect(server, post("/webhook", WEBHOOK, login, "Connection: close")))[9:12] == b"201"
        spoofed = post("/webhook", WEBHOOK, login, "Sec_Fetch_Site: x", "Connection: close")
        assert rest(connect(server, spoofed))[9:12] == b"201"
        true = post("/webhook", WEBHOOK, login, "Sec-Fetch-Site: cross-site", "Connection: close")
        assert rest(connect(server, true))[9:12] == b"403"


# --- the end


def test_a_request_on_its_way_when_the_server_is_told_to_stop_is_answered(serve, services):
    with serve(linger_seconds=15) as server:
        idle = connect(server, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        request = post("/webhook", WEBHOOK)
        half = connect(server, request[:-10])
        wait_until(lambda: any(found.held for found in server.connections), "half of it is there")
        server.wanted.clear()
        assert rest(idle) == b"", "one on which nothing has begun is closed"
        half.sendall(request[-10:])
        assert rest(half).startswith(b"HTTP/1.1 201 "), "answered, and then closed"
    assert len(services.store.events(1)) == 1
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_as_many_connections_are_taken_as_the_process_may_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        assert affordable_connections(100) == 100
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 356, "raised as far as they need"
        if hard != resource.RLIM_INFINITY:
            assert affordable_connections(10 * hard) == hard - 256
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
