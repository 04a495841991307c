"""One request handed to a WSGI application, body and all (PEP 3333)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    import h11

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass(frozen=True)
class Answer:
    """An application's answer."""

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


def environ_of(
    request: h11.Request, body: BytesIO, *, size: int, client: tuple[str, int], server: tuple[str, int]
) -> dict[str, Any]:
    """Return what WSGI calls the environment of a request that has arrived whole.

    Args:
        request: method, target and headers.
        body: the body, at its start.
        size: the body's length in bytes.
        client: address and port of who asks.
        server: address and port that was asked.
    """
    target = request.target.decode("ascii")
    if not target.startswith("/"):  # as a proxy is asked: `GET http://host/path`
        parts = urlsplit(target)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method.decode("ascii"),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "REQUEST_URI": target,
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
        "SERVER_PROTOCOL": f"HTTP/{request.http_version.decode('ascii')}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "CONTENT_LENGTH": str(size),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in request.headers:
        if b"_" in raw_name or raw_name in {b"content-length", b"transfer-encoding"}:
            continue  # `X_Y` would pass for `X-Y`; and the body is here already
        name, value = raw_name.decode("ascii").upper().replace("-", "_"), raw_value.decode("latin-1")
        key = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


def call(app: WsgiApp, environ: dict[str, Any]) -> Answer:
    """Return what the application answers, whole."""
    said: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
        del exc_info  # nothing has been sent yet: the later answer is the one that counts
        said[:] = [status, headers]
        return written.append

    chunks = app(environ, start_response)
    try:
        body = b"".join([*written, *chunks])
    finally:
        if (close := getattr(chunks, "close", None)) is not None:
            close()
    status, headers = said
    code, _, reason = status.partition(" ")
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return Answer(int(code), reason.encode("latin-1"), encoded, body)
