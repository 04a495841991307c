"""People who have signed in to label on the page, and their Label Studio tokens.

The database knows a cookie by its hash alone, and holds no token: it may be on another machine, and there are backups of
it. Tokens are in files of `MODEL_DIR` that only the backend's own user may read, because the trainer, another process,
sends with them what a person has confirmed, also after a restart.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, select

from everylabel.backend.store.atomic_write import partial
from everylabel.backend.store.database import CLOCKS_DIFFER_SECONDS, Database, StorageError
from everylabel.backend.store.tables import PageLabelRow, SignInRow

log = logging.getLogger(__name__)

SIGNED_IN_SECONDS = 12 * 3600.0
"""How long a sign-in lasts: a day at work."""


@dataclass(frozen=True)
class Person:
    """A person who has signed in, by the number and the name that Label Studio knows them by."""

    id: int
    name: str


class SignIns(Database):
    """The part of the store that holds sign-ins."""

    def sign_in(self, person: Person) -> str:
        """Keep a sign-in; return the secret for the person's cookie."""
        cookie = secrets.token_urlsafe(32)
        now = self._clock()
        with self._writing() as session:
            session.execute(delete(SignInRow).where(SignInRow.expires_at <= now))
            session.add(
                SignInRow(
                    cookie_hash=_hash(cookie),
                    annotator=person.id,
                    name=person.name,
                    expires_at=now + SIGNED_IN_SECONDS,
                )
            )
        return cookie

    def signed_in(self, cookie: str) -> Person | None:
        """Return the person whose cookie this is; None if it is unknown or its time is over."""
        with self._session() as session:
            row = session.get(SignInRow, _hash(cookie))
            left = 0.0 if row is None else row.expires_at - self._clock()
            # More than a whole day of work is left where the clock was ahead and was set back.
            if row is None or not 0.0 < left <= SIGNED_IN_SECONDS + CLOCKS_DIFFER_SECONDS:
                return None
            return Person(row.annotator, row.name)

    def sign_out(self, cookie: str) -> None:
        """Forget a sign-in."""
        with self._writing() as session:
            session.execute(delete(SignInRow).where(SignInRow.cookie_hash == _hash(cookie)))

    def people_who_need_tokens(self) -> set[int]:
        """Return the people who are signed in, or of whom a label has still to be sent or taken back."""
        signed_in = select(SignInRow.annotator).where(SignInRow.expires_at > self._clock())
        to_do = select(PageLabelRow.annotator).where(PageLabelRow.state.in_(("unsent", "take back")))
        with self._session() as session:
            return {*session.scalars(signed_in), *session.scalars(to_do.distinct())}


class PersonTokens:
    """The Label Studio token of each person who has signed in: one file each, for the backend's user alone.

    Args:
        folder: The folder `MODEL_DIR`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tokens"
        self._told: set[int] = set()
        """People of whose unreadable token the log has been told."""

    def save(self, annotator: int, token: str) -> None:
        """Keep a person's token instead of the one before.

        Raises:
            StorageError: It cannot be written.
        """
        path = self._path(annotator)
        unfinished = partial(path.with_name(f"{path.name}.{secrets.token_hex(8)}"))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                unfinished.touch(mode=0o600)
                unfinished.write_text(token, encoding="utf-8")
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"Your sign-in cannot be kept ({error.strerror}). Whoever runs this backend has to check the disk of "
                "MODEL_DIR and its permissions; then sign in again."
            ) from error

    def of(self, annotator: int) -> str | None:
        """Return a person's token; None if there is none that can be read: they have to sign in again then."""
        path = self._path(annotator)
        try:
            token = path.read_text(encoding="ascii")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if annotator not in self._told:  # the trainer asks many times a second
                self._told.add(annotator)
                log.warning("%s cannot be read (%s)", path, type(error).__name__)
            return None
        return token if token and token.isprintable() else None

    def keep_only(self, people: set[int]) -> None:
        """Delete the tokens of everybody else."""
        for path in self._folder.glob("*.token"):
            if not path.stem.isdecimal() or int(path.stem) not in people:
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    log.warning("%s cannot be deleted (%s)", path, error.strerror)

    def _path(self, annotator: int) -> Path:
        return self._folder / f"{annotator}.token"


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).hexdigest()
