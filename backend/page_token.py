"""The token that a request must carry to write: only a script that can read our page has it."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from pathlib import Path

from everylabel.backend.store import StorageError
from everylabel.backend.store.atomic_write import partial

_TOKEN = re.compile("[0-9a-f]{64}")
HEADER = "X-Everylabel-Token"
"""The header in which a script of the page sends the token, which it reads from `<meta name="page-token">`."""


class PageToken:
    """A secret in a file, the same for every process and every machine that shares the folder.

    Args:
        folder: The folder `MODEL_DIR`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "page.token"
        self._value = ""

    @property
    def value(self) -> str:
        """Return the token, which is made at first use, and anew where its file is damaged.

        Raises:
            StorageError: The file can be neither read nor written.
        """
        if not self._value:
            try:
                self._value = self._read() or self._make()
            except OSError as error:
                raise StorageError(
                    f"The token of the page cannot be kept in {self._path} ({error.strerror}). Check the disk and the "
                    "permissions of MODEL_DIR."
                ) from error
        return self._value

    def is_shown(self, given: str | None) -> bool:
        """Return whether a request carries the token, compared in constant time."""
        return bool(given) and hmac.compare_digest(
            str(given).encode("utf-8", "surrogateescape"), self.value.encode()
        )

    def _read(self) -> str:
        """Return the token; empty if there is none, or only what a crash has left of one."""
        try:
            kept = self._path.read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return ""
        return kept if _TOKEN.fullmatch(kept) else ""

    def _make(self) -> str:
        unfinished = partial(self._path)
        try:
            with unfinished.open("w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(unfinished, self._path)
            except FileExistsError:  # another process was faster, or the file is damaged
                if not self._read():
                    unfinished.replace(self._path)
        finally:
            unfinished.unlink(missing_ok=True)
        return self._read()
