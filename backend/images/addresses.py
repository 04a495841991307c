"""Addresses in task data: where each leads, and which of them may see Label Studio's token."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from everylabel.backend.images.errors import AddressRefusedError

CLOUD_SCHEMES = ("s3:", "gs:", "azure-blob:")
LONGEST_PATH = 2000
"""How much of a path is worked on to show 200 characters of it: a task may hold a megabyte of slashes."""


class LabelStudioRoutes:
    """The routes by which one Label Studio hands out images.

    Args:
        url: where Label Studio answers; a path prefix is kept.
    """

    def __init__(self, url: str) -> None:
        self._base = httpx.URL(url.rstrip("/"))

    def resolve(self, url: str, task_id: int) -> httpx.URL:
        """Return the http(s) address from which to fetch a task's image.

        Raises:
            AddressRefusedError: the address is damaged, or of a scheme that is not fetched.
        """
        lowered = url.lower()
        if lowered.startswith(CLOUD_SCHEMES):
            # Decoded by Label Studio's ResolveStorageUriAPIMixin; answers with the file or a presigned link.
            encoded = base64.urlsafe_b64encode(url.encode()).decode()
            return self.on_label_studio(f"/tasks/{task_id}/presign/?fileuri={encoded}")
        if lowered.startswith(("upload/", "/upload/")):  # as exports write it
            return self.on_label_studio("/data/" + url.lstrip("/"))
        if url.startswith("/") and not url.startswith("//"):
            return self.on_label_studio(url)
        if lowered.startswith(("http://", "https://")):
            return parsed(url)
        try:
            scheme = urlsplit(url).scheme if ":" in url else ""
        except ValueError as error:
            raise AddressRefusedError(
                "The image field of the task's data holds a damaged address, such as one with a single bracket "
                "where its host stands",
                "Correct the task's data; a file of your own computer has to be uploaded, or served by Label "
                "Studio as a local file",
            ) from error
        raise AddressRefusedError(
            f"{shown(url)} has the scheme {scheme!r}, which is not fetched"
            if scheme
            else f"{shown(url)} is not an address",
            "Use an upload, http(s), s3://, gs://, azure-blob://, a data: URI, or Label Studio's local files",
        )

    def on_label_studio(self, path: str) -> httpx.URL:
        """Return the address of a path on Label Studio, which may already have its prefix."""
        prefix = self._base.path.rstrip("/")
        if prefix and path.startswith(prefix + "/"):  # written by a Label Studio that knows its prefix
            path = path.removeprefix(prefix)
        return parsed(str(self._base).rstrip("/") + path)

    def is_label_studio(self, url: httpx.URL) -> bool:
        """Return True if the address has Label Studio's scheme, host and port."""
        return origin(url) == origin(self._base)

    def takes_token(self, url: httpx.URL) -> bool:
        """Return True for Label Studio's media routes: no task may have others called in our name."""
        path = unquote(url.path)
        if ".." in path.split("/") or "\\" in path or "//" in path:
            return False
        path = path.removeprefix(self._base.path.rstrip("/"))
        parts = path.strip("/").split("/")
        resolves = (
            len(parts) == 3 and parts[0] in {"tasks", "projects"} and parts[2] in {"presign", "resolve"}
        )
        return resolves or path.startswith(("/data/", "/storage-data/"))


def redirected(response: httpx.Response, name: str) -> httpx.URL:
    """Return the target of a redirect.

    Raises:
        AddressRefusedError: it is not an http(s) address.
    """
    try:
        target = str(response.url.join(response.headers.get("location", "")))
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefusedError(
            f"{name} is redirected to something that is not an address",
            "Give the task the image's final address",
        ) from error
    return parsed(target)


def can_be_sent(url: str) -> bool:
    """Return False for half of a surrogate pair, which JSON may hold and which is not text."""
    try:
        url.encode()
    except UnicodeEncodeError:
        return False
    return True


def parsed(url: str) -> httpx.URL:
    """Parse an http(s) address.

    Raises:
        AddressRefusedError: it is damaged, or of another scheme.
    """
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # an international name is decoded only now
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefusedError(f"{shown(url)} is not an address", "Correct the task's data") from error
    if parsed.scheme not in {"http", "https"} or not host:
        raise AddressRefusedError(
            f"{shown(url)} has the scheme {parsed.scheme!r}, which is not fetched", "Use http or https"
        )
    return parsed


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return the scheme, the host in lower case, and the port."""
    return url.scheme, url.host.lower(), url.port or {"http": 80, "https": 443}.get(url.scheme)


def upload_path(url: str) -> str | None:
    """Return `upload/<project>/<file>` of an uploaded file's address, or None for any other."""
    path = url.lstrip("/").removeprefix("data/")
    return path if path.startswith("upload/") and "://" not in url else None


def _without_secret(part: str) -> str:
    """Return a part of a web address's path, or … if it may be a token: some stores put one there."""
    name = unquote(part)
    long = len(name) >= 16 and any(letter.isdigit() for letter in name) and any(map(str.isalpha, name))
    is_file = re.fullmatch(r"[^.]{1,80}\.[A-Za-z0-9]{2,5}", name) is not None
    return "…" if "=" in name or (long and not is_file) else part


def shown(url: str) -> str:
    """Shorten an address for a message, without user, password, signature or other query that may be a secret.

    What cannot be printed is left out: messages are shown on terminals, which take some of it as commands.
    """
    if url[:5].lower() == "data:":
        return "The data: URI"
    try:
        parts = urlsplit(url)
        local_file = parse_qs(parts.query).get("d", [""])[0] if parts.path.endswith("/local-files/") else ""
        host = (parts.scheme and f"{parts.scheme}:") + (
            parts.netloc and f"//{parts.netloc.rpartition('@')[2]}"
        )
    except ValueError:
        return "The address"
    path = parts.path
    if parts.netloc:
        if len(path) > LONGEST_PATH:  # up to a whole name: the beginning of a token does not look like one
            path = path[:LONGEST_PATH].rpartition("/")[0] + "/…"
        path = "/".join(map(_without_secret, path.split("/")))
    shown = host + path + (f"?d={local_file}" if local_file else "")
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in shown[:400])
    return shown if len(shown) <= 200 else shown[:197] + "…"
