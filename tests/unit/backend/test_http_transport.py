"""Requests on connections of our own making: kept open, acknowledged at once, and left to httpx where a proxy is named."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import httpcore
import httpx
import pytest

from everylabel.backend.http_transport import PoolTransport, PromptNetwork, prompt_transport

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class Noting(socket.socket):
    """A socket that notes which options it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.options: list[tuple[int, int, int]] = []

    def setsockopt(self, *option: int) -> None:  # type: ignore[override]
        self.options.append(option)  # type: ignore[arg-type]


class OneAnswer(httpcore.MockBackend):
    """Connections on which an answer lies, in two pieces."""

    def __init__(self) -> None:
        super().__init__([b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"])
        self.socket = Noting()

    def connect_tcp(self, *args: object, **options: object) -> httpcore.NetworkStream:
        stream = super().connect_tcp(*args, **options)  # type: ignore[arg-type]
        stream.get_extra_info = {"socket": self.socket}.get  # type: ignore[method-assign]
        return stream


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


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="only Linux has it")
def test_each_piece_is_acknowledged_at_once() -> None:
    network = OneAnswer()
    with httpx.Client(transport=PoolTransport(PromptNetwork(network))) as client:
        assert client.get("http://label-studio.example/").text == "ok"
    assert network.socket.options == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)] * 2
    network.socket.close()


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
    monkeypatch.setenv("no_proxy", "localhost")  # names none
    assert isinstance(prompt_transport(), PoolTransport)
    monkeypatch.setenv(named, "http://proxy.example:3128")
    assert prompt_transport() is None
