"""Task data -> pixels: uploads, local files and cloud links through Label Studio, http(s), data URIs.

Task data is written by strangers. So: Label Studio's token goes to Label Studio alone, and there to its media
routes alone; other hosts must be on the public internet; bytes, pixels, seconds and formats are limited.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes, urlsplit

import httpx
from PIL import Image

from everylabel.backend.images.decode import (
    AddressRefusedError,
    ImageError,
    ImageLimits,
    ImageMissingError,
    ImageTokenError,
    ImageTooLargeError,
    ImageUnreachableError,
    NotAnImageError,
    decode,
    one_crop_only,
)
from everylabel.backend.images.decoding_limits import decoding_memory
from everylabel.backend.images.guarded_transport import DeadlineError, GuardedTransport, ReservedAddressError
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.errors import LabelStudioError

CLOUD_SCHEMES = ("s3:", "gs:", "azure-blob:")
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)


class ImageReader:
    """Reads the images that tasks point at. Safe to share between threads; keeps connections open.

    Args:
        label_studio_url: where Label Studio answers; a path prefix is kept.
        authorization: gives the value of the `Authorization` header, such as
            `LabelStudio(...).authorization`; None sends none. May raise `LabelStudioError`.
        limits: bytes, pixels and seconds.
        allow_private_addresses: whether http(s) addresses in tasks may lie on private networks.
    """

    def __init__(
        self,
        label_studio_url: str,
        authorization: Callable[[], str] | None = None,
        *,
        limits: ImageLimits | None = None,
        allow_private_addresses: bool = False,
    ) -> None:
        self._base = httpx.URL(label_studio_url.rstrip("/"))
        self._authorization = authorization
        self._limits = limits or ImageLimits()
        # Label Studio is reached whatever its address, which its owner chose; all others only if public.
        self._label_studio = self._client(allow_private_addresses=True)
        self._elsewhere = self._client(allow_private_addresses=allow_private_addresses)

    def close(self) -> None:
        """Close the connections."""
        self._label_studio.close()
        self._elsewhere.close()

    def read(self, url: str, task_id: int, *, enough: int | None = None) -> Image.Image:
        """Fetch and decode one image.

        Args:
            url: what the task's data holds: `/data/upload/…`, `/data/local-files/?d=…`, http(s), `s3://`,
                `gs://`, `azure-blob://` or `data:`; with a box at its end (`backend/label_studio/crop_shapes.py`), only that is
                given back.
            task_id: the task, which Label Studio needs to resolve a cloud link.
            enough: pixels the longer side needs, where not every one counts: see `decode`. A box is always cut out
                of every pixel.

        Returns:
            The picture as the annotator sees it: upright, RGB, the first frame of an animation.

        Raises:
            ImageError: it cannot be had; the subclass says why.
        """
        with one_crop_only("The crop"), decoding_memory.scope():
            address, box = crop_shapes.split(url) if isinstance(url, str) else (url, None)
            content = self.fetch(address, task_id)
            picture = decode(
                content, self._limits, name=_shown(address), enough=enough if box is None else None
            )
            return crop_shapes.cut(picture, box)

    def fetch(self, url: str, task_id: int) -> bytes:
        """Fetch the bytes of one image, at most `limits.max_bytes`; raises ImageError."""
        with one_crop_only("The crop"):
            return self._fetch(url, task_id)

    def _fetch(self, url: str, task_id: int) -> bytes:
        if not isinstance(url, str) or not url.strip():
            raise ImageMissingError(
                "The task holds no image address", "Give the image field of the task's data an address"
            )
        url = crop_shapes.split(url.strip())[0]
        if not _can_be_sent(url):
            raise AddressRefusedError(
                "The address holds half a character, which is no text",
                "Correct the task's data: something has cut a character in two",
            )
        if url[:5].lower() == "data:":
            return self._data_uri(url)
        try:
            return self._download(self._resolve(url, task_id), _shown(url))
        except ImageMissingError:
            upload = _upload_path(url)
            if upload is None:
                raise
            # Where Label Studio keeps its uploads in a cloud store, this route has them instead.
            with suppress(ImageMissingError):
                stored = self._on_label_studio(f"/storage-data/uploaded/?filepath={quote(upload)}")
                return self._download(stored, _shown(url))
            raise

    def _client(self, *, allow_private_addresses: bool) -> httpx.Client:
        client = httpx.Client(
            transport=GuardedTransport(allow_private_addresses=allow_private_addresses),
            timeout=httpx.Timeout(self._limits.read_seconds, connect=self._limits.connect_seconds),
            follow_redirects=False,
            headers={
                "User-Agent": "everylabel",
                "Accept": "image/*,*/*;q=0.5",
                # A compressed answer could unfold into gigabytes between two looks at its size.
                "Accept-Encoding": "identity",
            },
        )
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return client

    # --- where an address leads

    def _resolve(self, url: str, task_id: int) -> httpx.URL:
        lowered = url.lower()
        if lowered.startswith(CLOUD_SCHEMES):
            # Decoded by Label Studio's ResolveStorageUriAPIMixin; answers with the file or a presigned link.
            encoded = base64.urlsafe_b64encode(url.encode()).decode()
            return self._on_label_studio(f"/tasks/{task_id}/presign/?fileuri={encoded}")
        if lowered.startswith(("upload/", "/upload/")):  # as exports write it
            return self._on_label_studio("/data/" + url.lstrip("/"))
        if url.startswith("/") and not url.startswith("//"):
            return self._on_label_studio(url)
        if lowered.startswith(("http://", "https://")):
            return _parsed(url)
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
            f"{_shown(url)} has the scheme {scheme!r}, which is not fetched"
            if scheme
            else f"{_shown(url)} is not an address",
            "Use an upload, http(s), s3://, gs://, azure-blob://, a data: URI, or Label Studio's local files",
        )

    def _on_label_studio(self, path: str) -> httpx.URL:
        prefix = self._base.path.rstrip("/")
        if prefix and path.startswith(prefix + "/"):  # written by a Label Studio that knows its prefix
            path = path.removeprefix(prefix)
        return _parsed(str(self._base).rstrip("/") + path)

    def _is_label_studio(self, url: httpx.URL) -> bool:
        return _origin(url) == _origin(self._base)

    def _takes_token(self, url: httpx.URL) -> bool:
        """Whether this is a media route of Label Studio: no task may have others called in our name."""
        path = unquote(url.path)
        if ".." in path.split("/") or "\\" in path or "//" in path:
            return False
        path = path.removeprefix(self._base.path.rstrip("/"))
        parts = path.strip("/").split("/")
        resolves = (
            len(parts) == 3 and parts[0] in {"tasks", "projects"} and parts[2] in {"presign", "resolve"}
        )
        return resolves or path.startswith(("/data/", "/storage-data/"))

    # --- fetching

    def _download(self, url: httpx.URL, name: str) -> bytes:
        deadline = time.monotonic() + self._limits.total_seconds
        trusted = True  # until a redirect leaves Label Studio; what comes back to it carries no token
        for _ in range(MAX_REDIRECTS + 1):
            trusted = trusted and self._is_label_studio(url)
            headers = self._token() if trusted and self._takes_token(url) else {}
            client = self._label_studio if trusted else self._elsewhere
            try:
                with client.stream(
                    "GET", url, headers=headers, extensions={"deadline": deadline}
                ) as response:
                    if response.status_code not in REDIRECTS:
                        self._check_status(response, name, trusted)
                        return self._body(response, name)
                    if trusted and "/user/login" in response.headers.get("location", ""):
                        raise self._refused(response, name)
                    url = _redirected(response, name)
            except ReservedAddressError as error:
                raise AddressRefusedError(
                    f"{name} leads to {error.host}, on a private or reserved network",
                    "If that is Label Studio itself, set LABEL_STUDIO_URL to that address; if it is a store "
                    "of your own, set EVERYLABEL_ALLOW_PRIVATE_ADDRESSES=true, or turn off pre-signed URLs "
                    "in Label Studio's storage settings",
                ) from error
            except (httpx.TimeoutException, DeadlineError) as error:
                raise ImageUnreachableError(
                    f"{url.host} did not send {name} in time",
                    "It will be tried again; check that the host is up",
                ) from error
            except (httpx.TransportError, httpx.InvalidURL) as error:
                raise ImageUnreachableError(
                    f"{url.host} could not be reached for {name} ({type(error).__name__})",
                    "Check the address, and that this machine reaches it",
                ) from error
        raise ImageUnreachableError(
            f"{name} was redirected more than {MAX_REDIRECTS} times",
            "Give the task the image's final address",
        )

    def _token(self) -> dict[str, str]:
        if self._authorization is None:
            return {}
        try:
            return {"Authorization": self._authorization()}
        except LabelStudioError as error:
            raise ImageTokenError(
                "Label Studio's images cannot be read without a token", str(error)
            ) from error

    def _check_status(self, response: httpx.Response, name: str, trusted: bool) -> None:
        status = response.status_code
        if status == 200:
            return
        if trusted and status == 500 and "/data/upload/" in response.url.path:
            raise ImageUnreachableError(
                f"Label Studio failed to send {name} (500)",
                "It will be tried again. Label Studio also answers so for an upload that was deleted: if that is "
                "the case, upload the image again or delete the task",
            )
        if status >= 500 or status in {408, 425, 429}:
            raise ImageUnreachableError(
                f"{response.url.host} failed to send {name} ({status})",
                "It will be tried again; check that host",
            )
        if trusted and status in {401, 403}:
            raise self._refused(response, name)
        if status in {401, 403}:
            raise ImageMissingError(
                f"{response.url.host} does not give out {name} ({status})",
                "Make the image public, or upload it",
            )
        if trusted and name.lower().startswith(CLOUD_SCHEMES):
            raise ImageMissingError(
                f"Label Studio cannot resolve {name} ({status})",
                "Connect its bucket as a source storage of the project, and check that the file is there",
            )
        raise ImageMissingError(
            f"{response.url.host} has no {name} ({status})", "Upload the image again, or delete the task"
        )

    def _refused(self, response: httpx.Response, name: str) -> ImageError:
        status = response.status_code
        if not self._takes_token(response.url):
            return AddressRefusedError(
                f"{name} is not a media address of Label Studio, and other ones are not sent the token ({status})",
                "Give the task an upload, a cloud link or a local file",
            )
        if status == 403 and "/local-files/" in response.url.path:
            return ImageMissingError(
                f"Label Studio does not give out {name} ({status})",
                "Add its folder as a source storage (Local files) of the project; Label Studio itself needs "
                "LOCAL_FILES_SERVING_ENABLED=true and LOCAL_FILES_DOCUMENT_ROOT",
            )
        return ImageTokenError(
            f"Label Studio refused the token for {name} ({status})",
            "Create a personal access token under Account & Settings and set LABEL_STUDIO_API_KEY",
        )

    def _body(self, response: httpx.Response, name: str) -> bytes:
        limit = self._limits.max_bytes
        length = response.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length[:20]) > limit:
            raise self._too_many_bytes(name)
        parts: list[bytes] = []
        size = 0
        for part in response.iter_raw():
            size += len(part)
            if size > limit:
                raise self._too_many_bytes(name)
            parts.append(part)
        content = b"".join(parts)
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding in {"", "identity"}:
            return content
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise NotAnImageError(f"{name} comes compressed as {encoding}", "Serve the image uncompressed")
        try:
            content = zlib.decompressobj(wbits=47).decompress(content, limit + 1)
        except zlib.error as error:
            raise NotAnImageError(
                f"{name} comes with a damaged compression", "Serve it uncompressed"
            ) from error
        if len(content) > limit:
            raise self._too_many_bytes(name)
        return content

    def _data_uri(self, url: str) -> bytes:
        header, comma, payload = url[5:].partition(",")
        is_base64 = header.rstrip().lower().endswith(";base64")
        # Checked before decoding: base64 is four letters for three bytes, per cent signs three for one.
        if len(payload) > self._limits.max_bytes * (4 / 3 if is_base64 else 3) + 4:
            raise self._too_many_bytes("The data: URI")
        if not comma:
            raise NotAnImageError("The data: URI has no data", "Write it as data:image/png;base64,…")
        try:
            content = (
                base64.b64decode(unquote(payload), validate=False) if is_base64 else unquote_to_bytes(payload)
            )
        except (binascii.Error, ValueError) as error:
            raise NotAnImageError(
                "The data: URI holds damaged base64", "Write it as data:image/png;base64,…"
            ) from error
        if len(content) > self._limits.max_bytes:
            raise self._too_many_bytes("The data: URI")
        return content

    def _too_many_bytes(self, name: str) -> ImageError:
        return ImageTooLargeError(
            f"{name} is larger than {self._limits.max_bytes / 1e6:g} MB",
            "Shrink the image, or set EVERYLABEL_MAX_IMAGE_MEGABYTES",
        )


def _redirected(response: httpx.Response, name: str) -> httpx.URL:
    """Where a redirect leads."""
    try:
        target = str(response.url.join(response.headers.get("location", "")))
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefusedError(
            f"{name} is redirected to what is not an address", "Give the task the image's final address"
        ) from error
    return _parsed(target)


def _can_be_sent(url: str) -> bool:
    """Whether an address is text: JSON may hold half of a surrogate pair, which is none."""
    try:
        url.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # an international name is decoded only now
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefusedError(f"{_shown(url)} is not an address", "Correct the task's data") from error
    if parsed.scheme not in {"http", "https"} or not host:
        raise AddressRefusedError(
            f"{_shown(url)} has the scheme {parsed.scheme!r}, which is not fetched", "Use http or https"
        )
    return parsed


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host.lower(), url.port or {"http": 80, "https": 443}.get(url.scheme)


def _upload_path(url: str) -> str | None:
    """`upload/<project>/<file>` of an uploaded file's address."""
    path = url.lstrip("/").removeprefix("data/")
    return path if path.startswith("upload/") and "://" not in url else None


def _without_secret(part: str) -> str:
    """Return a part of a web address's path, or … where it may be a token: some stores put one there."""
    name = unquote(part)
    long = len(name) >= 16 and any(letter.isdigit() for letter in name) and any(map(str.isalpha, name))
    is_file = re.fullmatch(r"[^.]{1,80}\.[A-Za-z0-9]{2,5}", name) is not None
    return "…" if "=" in name or (long and not is_file) else part


def _shown(url: str) -> str:
    """An address for a message: without user, password, signature or other query that may be a secret."""
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
    path = "/".join(map(_without_secret, parts.path.split("/"))) if parts.netloc else parts.path
    shown = host + path + (f"?d={local_file}" if local_file else "")
    return shown if len(shown) <= 200 else shown[:197] + "…"
