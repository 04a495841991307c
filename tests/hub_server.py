"""A model hub on this machine: the part of its protocol that a download takes, with its error codes and headers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Repository:
    """A model on the hub: each revision's name with its commit, and each commit with its files."""

    commits: dict[str, Path]
    refs: dict[str, str]
    gated: bool = False


@dataclass
class Hub:
    """Serves repositories; what was asked and with which token is kept."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    valid_token: str = "hf_" + "valid"
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    url: str = ""

    def answer(self, method: str, path: str, authorization: str | None) -> tuple[int, dict[str, str], bytes]:
        """Return the status, headers and body of an answer."""
        self.requests.append(f"{method} {path}")
        token = (authorization or "").removeprefix("Bearer ")
        self.tokens |= {token} - {""}
        if token and token != self.valid_token:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, b""
        name, _, rest = path.strip("/").partition("/resolve/")
        found = self.repositories.get(name)
        if found is None:
            return (
                401,
                {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Invalid username or password."},
                b"",
            )
        revision, _, file = rest.partition("/")
        commit = found.refs.get(revision, revision)
        if commit not in found.commits:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        headers = {"X-Repo-Commit": commit}
        if found.gated and file != "README.md" and token != self.valid_token:
            return 403 if token else 401, {**headers, "X-Error-Code": "GatedRepo"}, b""
        stored = found.commits[commit] / file
        if not stored.is_file():
            return 404, {**headers, "X-Error-Code": "EntryNotFound"}, b""
        content = stored.read_bytes()
        return 200, {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, content


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = hub.answer(self.command, self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  the server's name for it

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
