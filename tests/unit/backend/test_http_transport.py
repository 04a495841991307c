"""Requests on connections of our own making: kept open, acknowledged at once, and left to httpx where a proxy is named."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from everylabel.backend.http_transport import PoolTransport, prompt_transport

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class PieceByPiece:
    """A server that writes its answers as Label Studio's own does: status, each header and the body one by one."""

    def __init__(self) -> None:
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    @staticmethod
    def _answer(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536):
                for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n", b"\r\n", b"ok"):
                    connection.sendall(piece)


@pytest.fixture
def server() -> Iterator[PieceByPiece]:
    found = PieceByPiece()
    yield found
    found.close()


def test_an_answer_in_pieces_is_whole_and_its_connection_is_used_again(server: PieceByPiece) -> None:
    with httpx.Client(transport=PoolTransport(), base_url=server.url) as client:
        assert [client.get("/").text for _ in range(20)] == ["ok"] * 20
    assert server.connections == 1


def test_an_answer_that_does_not_come_and_a_server_that_is_gone_are_errors_of_httpx() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with httpx.Client(transport=PoolTransport(), timeout=0.2) as client:
        with pytest.raises(httpx.TimeoutException):
            client.get(address)
        silent.close()
        with pytest.raises(httpx.ConnectError):
            client.get(address)


@pytest.mark.parametrize("named", PROXIES)
def test_where_the_environment_names_a_proxy_httpx_uses_it(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    assert isinstance(prompt_transport(), PoolTransport)
    monkeypatch.setenv(named, "http://proxy.example:3128")
    assert prompt_transport() is None
