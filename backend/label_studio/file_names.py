"""The name of a person's own file: a task's data says it, or the address of its crop."""

from __future__ import annotations

import re
from collections.abc import Mapping
from posixpath import basename
from urllib.parse import parse_qs, unquote, urlsplit

FILE_NAME = "file_name"
"""Where a task's data holds the name of a person's own file."""
_UPLOADED = re.compile(r"/data/upload/\d+/[0-9a-f]{8}-(.+)$")
"""Label Studio 1.23.2 puts eight digits before the name of an uploaded file."""


def file_name(data: Mapping[str, object], url: str | None) -> str:
    """Return the name of a crop's file, with the folders that its owner gave it: `cats/1.jpg`.

    Args:
        data: A task's data.
        url: The address of its crop, which is asked where the data names no file.

    Returns:
        The name, or an empty text where there is none: an image may be in the address itself.
    """
    named = data.get(FILE_NAME)
    if not isinstance(named, str) or not named.strip():
        named = _in_address(url or "")
    return named.encode("utf-8", "replace").decode("utf-8")


def _in_address(url: str) -> str:
    if url[:5].lower() == "data:":
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.path.endswith("/data/local-files/"):
        return basename(parse_qs(parts.query).get("d", [""])[0])
    path = unquote(parts.path)
    uploaded = _UPLOADED.search(path)
    return uploaded.group(1) if uploaded else basename(path)
