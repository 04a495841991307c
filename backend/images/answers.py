"""Check and read a host's answer: the bytes of an image within the limit, or the error and the way out."""

from __future__ import annotations

import base64
import binascii
import zlib
from io import BytesIO
from urllib.parse import unquote, unquote_to_bytes

import httpx

from everylabel.backend.images.addresses import CLOUD_SCHEMES
from everylabel.backend.images.errors import (
    AddressRefusedError,
    ImageMissingError,
    ImageTokenError,
    ImageTooLargeError,
    ImageUnreachableError,
    NotAnImageError,
)
from everylabel.backend.label_studio.crop_errors import ImageError


def check_status(response: httpx.Response, name: str, *, trusted: bool, takes_token: bool) -> None:
    """Raise an error unless the status is 200.

    Args:
        response: the answer, not yet read.
        name: what messages call the image.
        trusted: Label Studio itself answered.
        takes_token: it was sent Label Studio's token.

    Raises:
        ImageError: the status says that there is no image, not now, or not without another token.
    """
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
        raise refused(response, name, takes_token=takes_token)
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


def refused(response: httpx.Response, name: str, *, takes_token: bool) -> ImageError:
    """Return the error for Label Studio's refusal of an image."""
    status = response.status_code
    if not takes_token:
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


def read_body(response: httpx.Response, name: str, limit: int) -> bytes:
    """Read at most `limit` bytes, decompressed if need be.

    Raises:
        ImageTooLargeError: there are more.
        NotAnImageError: the compression is damaged or unknown.
    """
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise too_many_bytes(name, limit)
    # Hundreds of parts, each a block of its own, would leave holes in the memory of every thread.
    read = BytesIO()
    for part in response.iter_raw():
        if read.tell() + len(part) > limit:
            raise too_many_bytes(name, limit)
        read.write(part)
    content = read.getvalue()
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        return content
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise NotAnImageError(f"{name} comes compressed as {encoding}", "Serve the image uncompressed")
    try:
        content = zlib.decompressobj(wbits=47).decompress(content, limit + 1)
    except zlib.error as error:
        raise NotAnImageError(f"{name} comes with a damaged compression", "Serve it uncompressed") from error
    if len(content) > limit:
        raise too_many_bytes(name, limit)
    return content


def decode_data_uri(url: str, limit: int) -> bytes:
    """Decode the bytes of a `data:` URI, at most `limit`.

    Raises:
        ImageTooLargeError: there are more.
        NotAnImageError: there is no data, or damaged base64.
    """
    header, comma, payload = url[5:].partition(",")
    is_base64 = header.rstrip().lower().endswith(";base64")
    # Checked before decoding: base64 is four letters for three bytes, per cent signs three for one.
    if len(payload) > limit * (4 / 3 if is_base64 else 3) + 4:
        raise too_many_bytes("The data: URI", limit)
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
    if len(content) > limit:
        raise too_many_bytes("The data: URI", limit)
    return content


def too_many_bytes(name: str, limit: int) -> ImageError:
    """Return the error for an image of more than `limit` bytes."""
    return ImageTooLargeError(
        f"{name} is larger than {limit / 1e6:g} MB",
        "Shrink the image, or set EVERYLABEL_MAX_IMAGE_MEGABYTES",
    )
