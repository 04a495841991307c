"""The first user of a Label Studio that is started here."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path


class ServerError(RuntimeError):
    """Label Studio could not be started; the message says why and what to do."""


@dataclass(frozen=True)
class Credentials:
    """The first user of a data directory, made at random once and stored there, readable by its owner alone."""

    username: str
    password: str
    token: str

    @classmethod
    def of(cls, data_dir: Path) -> Credentials:
        """Return the credentials stored in `data_dir`, creating them on the first call.

        Raises:
            ServerError: the stored file is damaged.
        """
        path = data_dir / "credentials.json"
        if path.exists():
            try:
                return cls(**json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                raise ServerError(
                    f"{path} is damaged ({error}). Restore it, or remove {data_dir} to start with an empty "
                    "Label Studio."
                ) from error
        made = cls("annotator@example.com", secrets.token_urlsafe(12), secrets.token_hex(20))
        data_dir.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        # Created 0600 rather than changed to it: there is no moment in which another user could read it.
        with os.fdopen(
            os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
        ) as file:
            json.dump(asdict(made), file)
        partial.replace(path)
        return made
