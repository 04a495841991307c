"""Sign in to label on the page: a person shows their Label Studio token, and Label Studio says who they are."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from everylabel.backend.label_studio.errors import (
    LabelStudioError,
    LabelStudioUnreachableError,
    ProjectNotFoundError,
    TokenRefusedError,
)
from everylabel.backend.label_studio.request_bodies import is_id
from everylabel.backend.store import Person

if TYPE_CHECKING:
    from everylabel.backend.label_pages.sending import MakeClient
    from everylabel.backend.store import PersonTokens, Store

LONGEST_TOKEN = 4096
TRIES, TRIES_SECONDS = 10, 60.0
"""Tries to sign in that fail, from one address in a minute, and process of the web server; ten times as many from all."""
MEMBER_SECONDS = 300.0
"""How long an answer of Label Studio's counts that a person may see a project."""


class SignInError(RuntimeError):
    """A person cannot sign in; the message says why and the way out.

    Args:
        message: For the person.
        status: The status of the answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SignIn:
    """Signs people in. Safe to share between threads.

    Args:
        store: Keeps who is signed in.
        tokens: Keeps their tokens.
        make_client: Makes a person's client.
        clock: Returns seconds that never go back.
    """

    def __init__(
        self,
        store: Store,
        tokens: PersonTokens,
        make_client: MakeClient,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._make_client = make_client
        self._clock = clock
        self._tried: dict[str, deque[float]] = {}
        self._members: dict[tuple[int, int], float] = {}
        """When Label Studio said that a person may see a project, by person and project."""

    def sign_in(self, project_id: int, token: object, address: str) -> str:
        """Sign a person in, and return the secret for their cookie.

        Args:
            project_id: The project that they want to label.
            token: What they gave as their token.
            address: Where the request came from.

        Raises:
            SignInError: The token is none, Label Studio refuses it, or its owner may not see the project.
        """
        self._count(address)
        token = token.strip() if isinstance(token, str) else ""
        if not token or len(token) > LONGEST_TOKEN or not (token.isascii() and token.isprintable()):
            raise SignInError(
                "This is not a token. Copy it whole from Label Studio: Account & Settings, Personal Access Token.",
                400,
            )
        client = self._make_client(token)
        try:
            person = _person(client.whoami())
            client.project(project_id)
        except LabelStudioError as error:
            raise _explained(error, project_id) from error
        finally:
            client.close()
        self._forgive(address)
        self._tokens.save(person.id, token)
        self._members[person.id, project_id] = self._clock()
        return self._store.sign_in(person)

    def person(self, cookie: str | None) -> Person | None:
        """Return the person whose cookie this is; None if nobody is signed in with it."""
        return self._store.signed_in(cookie) if cookie else None

    def check_member(self, person: Person, project_id: int) -> None:
        """Check that a person who is signed in may see a project, as Label Studio said within five minutes.

        Raises:
            SignInError: They may not, or their token does not hold any more.
        """
        at = self._members.get((person.id, project_id))
        if at is not None and self._clock() - at < MEMBER_SECONDS:
            return
        token = self._tokens.of(person.id)
        if token is None:
            raise SignInError(
                "Your sign-in has ended. Sign in again: what you have chosen on this page is kept.", 401
            )
        client = self._make_client(token)
        try:
            client.project(project_id)
        except LabelStudioUnreachableError:
            if at is None:
                raise SignInError(
                    "Label Studio does not answer, so that nobody knows whether you may label this project. Try again.",
                    503,
                ) from None
            return  # labels are kept here until it answers
        except LabelStudioError as error:
            raise _explained(error, project_id) from error
        finally:
            client.close()
        self._members[person.id, project_id] = self._clock()

    def sign_out(self, cookie: str) -> None:
        """Forget a sign-in; the token goes once no label of the person's waits."""
        self._store.sign_out(cookie)
        self._tokens.keep_only(self._store.people_who_need_tokens())

    def _forgive(self, address: str) -> None:
        """Take back what a try to sign in that succeeded has counted: a team may share an address."""
        for key in (address, ""):
            if tried := self._tried.get(key):
                tried.pop()

    def _count(self, address: str) -> None:
        """Count a try to sign in.

        Raises:
            SignInError: There were too many in the last minute.
        """
        now = self._clock()
        for key, most in ((address, TRIES), ("", 10 * TRIES)):
            tried = self._tried.setdefault(key, deque())
            while tried and now - tried[0] >= TRIES_SECONDS:
                tried.popleft()
            if len(tried) >= most:
                raise SignInError("Too many tries to sign in. Wait a minute.", 429)
            tried.append(now)
        for key in [
            key for key, tried in self._tried.items() if not tried or now - tried[-1] >= TRIES_SECONDS
        ]:
            del self._tried[key]


def _person(user: dict[str, Any]) -> Person:
    number = user.get("id")
    if not is_id(number):
        raise LabelStudioError("Label Studio did not say whose token this is. Is it 1.20.0 or later?")
    names = (user.get("first_name"), user.get("last_name"))
    name = " ".join(part.strip() for part in names if isinstance(part, str) and part.strip())
    shown = name or str(user.get("email") or user.get("username") or f"annotator {number}")
    return Person(number, "".join(letter for letter in shown if letter.isprintable())[:100])


def _explained(error: LabelStudioError, project_id: int) -> SignInError:
    if isinstance(error, TokenRefusedError):
        return SignInError(
            "Label Studio does not accept this token. Copy a new one from Label Studio: Account & Settings, Personal "
            "Access Token. (A legacy token works only where the organization has legacy tokens on.)",
            401,
        )
    if isinstance(error, ProjectNotFoundError):
        return SignInError(
            f"The owner of this token may not see project {project_id}. Use the token of an account that can open the "
            "project in Label Studio, or ask the project's owner to add you.",
            403,
        )
    if isinstance(error, LabelStudioUnreachableError):
        return SignInError("Label Studio does not answer at the moment. Try again when it is back.", 503)
    return SignInError(str(error), 502)
