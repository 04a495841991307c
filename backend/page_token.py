"""The token that a request must carry to write: only a script that can read our page has it."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from everylabel.backend.store.atomic_write import partial

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
        """Return the token, which is made at first use."""
        if not self._value:
            self._value = self._read() or self._make()
        return self._value

    def is_shown(self, given: str | None) -> bool:
        """Return whether a request carries the token, compared in constant time."""
        return hmac.compare_digest((given or "").encode("utf-8", "surrogateescape"), self.value.encode())

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def _make(self) -> str:
        unfinished = partial(self._path)
        unfinished.write_text(secrets.token_hex(32), encoding="ascii")
        unfinished.chmod(0o600)
        try:
            os.link(unfinished, self._path)  # unless another process was faster
        except FileExistsError:
            pass
        finally:
            unfinished.unlink()
        return self._read()
