"""Names of files and folders that any file system takes, made of what people call their classes and files."""

from __future__ import annotations

import re
import unicodedata

_NOT_IN_A_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$", re.IGNORECASE)
"""Devices of Windows, with any ending."""
LONGEST = 120
"""Bytes of a name: file systems take 255, and a number may follow."""


def safe_name(text: str, otherwise: str = "_") -> str:
    """Return a name for a file or a folder that reads as `text` does.

    Letters of any script stay. Slashes, control characters and what Windows refuses become `_`, and so does a dot at
    the beginning or the end, which would hide the file or get lost.

    Args:
        text: A class or the name of a file.
        otherwise: The name if nothing is left.
    """
    name = _NOT_IN_A_NAME.sub("_", unicodedata.normalize("NFC", text)).strip()
    name = name.encode("utf-8")[:LONGEST].decode("utf-8", "ignore").rstrip()
    if name.startswith("."):
        name = "_" + name[1:]
    if name.endswith("."):
        name = name[:-1] + "_"
    if _RESERVED.match(name):
        name = "_" + name
    return name or otherwise


class Taken:
    """The names taken in each folder, as a file system that does not tell `Cat` from `cat` sees them."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()

    def free(self, folder: str, stem: str, suffix: str = "", number: int | None = None) -> str:
        """Return a name that is free in a folder, and take it: `1.jpg`, or `1-17.jpg` where there is one already.

        Args:
            folder: The folder.
            stem: The name without its suffix.
            suffix: `.jpg`, or empty.
            number: Follows the stem if the name is taken, such as a task's; if None, the lowest that is free.
        """
        name, n = f"{stem}{suffix}", 2
        while (folder, _folded(name)) in self._taken:
            if number is None:
                name, n = f"{stem} ({n}){suffix}", n + 1
            else:
                stem = f"{stem}-{number}"
                name = f"{stem}{suffix}"
        self._taken.add((folder, _folded(name)))
        return name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name.casefold())
