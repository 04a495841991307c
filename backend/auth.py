"""Access to the backend: people have their own key, and Label Studio one that delivers and no more.

Every account of a Label Studio can read a webhook's headers (`GET /api/webhooks/`). So Label Studio is not given
a key to the page but a delivery secret, which opens `DELIVERY_ROUTES` alone. If none is set, it is derived one way from
the people's key.

Label Studio 1.23.2 calls an ML backend with basic auth or with nothing, and sends a webhook any header. So the secret
goes into the webhook as a bearer token, and into the calls of an ML backend as the password of a user named `everylabel`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from werkzeug.datastructures import Authorization

    from everylabel.backend.settings import Settings

LOGIN = "everylabel"
DELIVERY_ROUTES = {"/webhook", "/predict", "/setup", "/versions"}
"""The routes that Label Studio calls; `/health` is open to everybody."""


class Access(IntEnum):
    """The extent of what a request's key opens."""

    NONE = 0
    DELIVERY = 1
    """`DELIVERY_ROUTES`."""
    EVERYTHING = 2


def access(settings: Settings, given: Authorization | None) -> Access:
    """Return what the credentials of a request open: everything if the settings ask for none.

    Args:
        settings: The keys that are set.
        given: The credentials; None if the request carries none.

    Returns:
        The widest access that they give.
    """
    if not settings.has_auth:
        return Access.EVERYTHING
    if given is None or given.type not in {"basic", "bearer"}:
        return Access.NONE
    bearer, delivery = settings.bearer_secret.get_secret_value(), delivery_secret(settings)
    if given.type == "bearer":
        is_person, is_delivery = bool(bearer) and _same(given.token, bearer), _same(given.token, delivery)
    else:
        is_person = any(_is_login(given, user, key) for user, key in _people(settings))
        is_delivery = _is_login(given, LOGIN, delivery)
    if is_person:
        return Access.EVERYTHING
    return Access.DELIVERY if is_delivery else Access.NONE


def delivery_secret(settings: Settings) -> str:
    """Return the secret that Label Studio delivers with: the one that is set, or one derived from the people's key."""
    if told := settings.delivery_secret.get_secret_value():
        return told
    password, bearer = settings.basic_auth_pass.get_secret_value(), settings.bearer_secret.get_secret_value()
    return _derived(f"{settings.basic_auth_user}:{password}" if password else bearer)


@cache
def _derived(key: str) -> str:
    """Return a secret that many can read and that does not reveal the key it is derived from.

    The slow hash (RFC 7914) protects passwords that people made up: 16 MB and some 50 ms for each password tried.
    """
    return hashlib.scrypt(key.encode(), salt=b"everylabel delivery", n=2**14, r=8, p=1, dklen=32).hex()


def basic_login(settings: Settings) -> tuple[str, str] | None:
    """Return the user name and password that Label Studio calls an ML backend with, or None if none are needed."""
    return (LOGIN, delivery_secret(settings)) if settings.has_auth else None


def webhook_headers(settings: Settings) -> dict[str, str]:
    """Return the headers a webhook must carry."""
    return {"Authorization": f"Bearer {delivery_secret(settings)}"} if settings.has_auth else {}


def holds_key_for_people(settings: Settings, headers: dict[str, str]) -> bool:
    """Return whether a webhook's headers hold the key to the page, as before there were two keys."""
    basic = (f"Basic {_encoded(*login)}" for login in _people(settings))
    bearer = settings.bearer_secret.get_secret_value()
    return headers.get("Authorization") in {*basic, *([f"Bearer {bearer}"] if bearer else [])}


def _people(settings: Settings) -> list[tuple[str, str]]:
    logins = [
        (settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()),
        (LOGIN, settings.bearer_secret.get_secret_value()),
    ]
    return [(user, key) for user, key in logins if key]


def _encoded(user: str, key: str) -> str:
    return base64.b64encode(f"{user}:{key}".encode()).decode()


def _is_login(given: Authorization, user: str, key: str) -> bool:
    same_user, same_key = _same(given.username, user), _same(given.password, key)
    return same_user and same_key  # both compared, so that the time taken does not tell a right user name


def _same(given: str | None, wanted: str) -> bool:
    return hmac.compare_digest((given or "").encode("utf-8", "surrogateescape"), wanted.encode())
