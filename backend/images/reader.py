"""Read a task's image into pixels: uploads, local files and cloud links through Label Studio, http(s), data URIs.

Task data is written by strangers. So: Label Studio's token goes to Label Studio alone, and there to its media
routes alone; other hosts must be on the public internet; bytes, pixels, seconds and formats are limited.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from http.cookiejar import DefaultCookiePolicy
from importlib import import_module
from typing import Any
from urllib.parse import quote

import httpx
from PIL import Image

from everylabel.backend.images.addresses import (
    LabelStudioRoutes,
    can_be_sent,
    redirected,
    shown,
    upload_path,
)
from everylabel.backend.images.answers import check_status, decode_data_uri, read_body, refused
from everylabel.backend.images.cut import cut
from everylabel.backend.images.decode import decode
from everylabel.backend.images.decoding_limits import ImageLimits, decoding_memory
from everylabel.backend.images.errors import (
    AddressRefusedError,
    ImageMissingError,
    ImageTokenError,
    ImageUnreachableError,
)
from everylabel.backend.images.guarded_transport import DeadlineError, GuardedTransport, ReservedAddressError
from everylabel.backend.label_studio import crop_shapes
from everylabel.backend.label_studio.crop_errors import one_crop_only
from everylabel.backend.label_studio.errors import LabelStudioError

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)


class ImageReader:
    """A reader of the images that tasks point at. Safe to share between threads; keeps connections open.

    Args:
        label_studio_url: where Label Studio answers; a path prefix is kept.
        authorization: gives the value of the `Authorization` header, such as
            `LabelStudio(...).authorization`; None sends none. May raise `LabelStudioError`.
        limits: bytes, pixels and seconds.
        allow_private_addresses: whether http(s) addresses in tasks may be on private networks.
    """

    def __init__(
        self,
        label_studio_url: str,
        authorization: Callable[[], str] | None = None,
        *,
        limits: ImageLimits | None = None,
        allow_private_addresses: bool = False,
    ) -> None:
        self._routes = LabelStudioRoutes(label_studio_url)
        self._authorization = authorization
        self._limits = limits or ImageLimits()
        self._options = {
            "label_studio_url": label_studio_url,
            "limits": asdict(self._limits),
            "allow_private_addresses": allow_private_addresses,
        }
        # Label Studio is reached whatever its address, which its owner chose; all others only if public.
        self._label_studio = self._client(allow_private_addresses=True)
        self._elsewhere = self._client(allow_private_addresses=allow_private_addresses)

    def described(self) -> dict[str, Any]:
        """Return what `make_described` makes such a reader of in another process: JSON, without the authorization."""
        return {"of": f"{type(self).__module__}:{type(self).__qualname__}", **self._options}

    def authorization(self) -> str:
        """Return the value of the `Authorization` header of requests to Label Studio; empty where there is none."""
        with suppress(LabelStudioError):
            return self._authorization() if self._authorization is not None else ""
        return ""

    def close(self) -> None:
        """Close the connections."""
        self._label_studio.close()
        self._elsewhere.close()

    def read(self, url: str, task_id: int, *, enough: int | None = None) -> Image.Image:
        """Fetch and decode one image.

        Args:
            url: the address in the task's data: `/data/upload/…`, `/data/local-files/?d=…`, http(s), `s3://`, `gs://`,
                `azure-blob://` or `data:`. With a shape at its end (`backend/label_studio/crop_shapes.py`), only that
                part is returned.
            task_id: the task, which Label Studio needs to resolve a cloud link.
            enough: pixels the longer side needs, if not every one counts: see `decode`. A shape is always cut out of
                every pixel.

        Returns:
            The image as the annotator sees it: upright, RGB, the first frame of an animation.

        Raises:
            ImageError: the image cannot be read; the subclass says why.
        """
        with one_crop_only("The crop"), decoding_memory.scope():
            address, box = crop_shapes.split(url) if isinstance(url, str) else (url, None)
            _, picture = self.read_picture(address, task_id, enough=enough if box is None else None)
            return cut(picture, box)

    def read_picture(
        self, address: str, task_id: int, *, enough: int | None = None
    ) -> tuple[bytes, Image.Image]:
        """Fetch one image and decode it whole; return its file and its pixels.

        Arguments and errors are those of `read`, for an address without a shape.
        """
        content = self.fetch(address, task_id)
        return content, decode(content, self._limits, name=shown(address), enough=enough)

    def fetch(self, url: str, task_id: int) -> bytes:
        """Fetch the bytes of one image, at most `limits.max_bytes`.

        Raises:
            ImageError: the image cannot be fetched; the subclass says why.
        """
        with one_crop_only("The crop"):
            return self._fetch(url, task_id)

    def _fetch(self, url: str, task_id: int) -> bytes:
        if not isinstance(url, str) or not url.strip():
            raise ImageMissingError(
                "The task holds no image address", "Give the image field of the task's data an address"
            )
        url = crop_shapes.split(url.strip())[0]
        if not can_be_sent(url):
            raise AddressRefusedError(
                "The address holds half of a character",
                "Correct the task's data: something has cut a character in two",
            )
        if url[:5].lower() == "data:":
            return decode_data_uri(url, self._limits.max_bytes)
        try:
            return self._download(self._routes.resolve(url, task_id), shown(url))
        except ImageMissingError:
            upload = upload_path(url)
            if upload is None:
                raise
            # Where Label Studio keeps its uploads in a cloud store, this route has them instead.
            with suppress(ImageMissingError):
                stored = self._routes.on_label_studio(f"/storage-data/uploaded/?filepath={quote(upload)}")
                return self._download(stored, shown(url))
            raise

    def _client(self, *, allow_private_addresses: bool) -> httpx.Client:
        client = httpx.Client(
            transport=GuardedTransport(allow_private_addresses=allow_private_addresses),
            timeout=httpx.Timeout(self._limits.read_seconds, connect=self._limits.connect_seconds),
            follow_redirects=False,
            headers={
                "User-Agent": "everylabel",
                "Accept": "image/*,*/*;q=0.5",
                # A compressed answer could unfold into gigabytes between two checks of its size.
                "Accept-Encoding": "identity",
            },
        )
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return client

    def _download(self, url: httpx.URL, name: str) -> bytes:
        deadline = time.monotonic() + self._limits.total_seconds
        trusted = True  # until a redirect leaves Label Studio; what comes back to it carries no token
        for _ in range(MAX_REDIRECTS + 1):
            trusted = trusted and self._routes.is_label_studio(url)
            headers = self._token() if trusted and self._routes.takes_token(url) else {}
            client = self._label_studio if trusted else self._elsewhere
            try:
                with client.stream(
                    "GET", url, headers=headers, extensions={"deadline": deadline}
                ) as response:
                    takes_token = self._routes.takes_token(response.url)
                    if response.status_code not in REDIRECTS:
                        check_status(response, name, trusted=trusted, takes_token=takes_token)
                        return read_body(response, name, self._limits.max_bytes)
                    if trusted and "/user/login" in response.headers.get("location", ""):
                        raise refused(response, name, takes_token=takes_token)
                    url = redirected(response, name)
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
            value = self._authorization()
            return {"Authorization": value} if value else {}
        except LabelStudioError as error:
            raise ImageTokenError(
                "Label Studio's images cannot be read without a token", str(error)
            ) from error


def make_described(description: dict[str, Any], authorization: Callable[[], str]) -> ImageReader:
    """Make a reader of the description that `ImageReader.described` gives.

    Args:
        description: of this program, never of a stranger: it names a class.
        authorization: gives the value of the `Authorization` header, empty for none.
    """
    module, _, name = description["of"].partition(":")
    options = {key: value for key, value in description.items() if key != "of"}
    if "limits" in options:
        options["limits"] = ImageLimits(**options["limits"])
    reader: ImageReader = getattr(import_module(module), name)(authorization=authorization, **options)
    return reader
