"""Who may call the backend: HTTP basic auth, or a bearer secret.

Label Studio 1.23.2 calls an ML backend with basic auth or with nothing, and sends a webhook any header. So a
bearer secret goes into the webhook as it is, and into the calls of an ML backend as the password of a user named
`everylabel`.
"""

from __future__ import annotations

import base64
import hmac

from werkzeug.datastructures import Authorization

from backend.settings import Settings

LOGIN = "everylabel"


def is_let_in(settings: Settings, given: Authorization | None) -> bool:
    """Whether a request carries what the settings ask for; everybody is, where they ask for nothing."""
    if not settings.has_auth:
        return True
    if given is None:
        return False
    secret = settings.bearer_secret.get_secret_value()
    if given.type == "bearer":
        return bool(secret) and _same(given.token, secret)
    if given.type != "basic":
        return False
    return any(_is_login(given, user, key) for user, key in _logins(settings))


def basic_login(settings: Settings) -> tuple[str, str] | None:
    """The user name and password Label Studio calls an ML backend with; None where nothing is asked for."""
    logins = _logins(settings)
    return logins[0] if logins else None


def webhook_headers(settings: Settings) -> dict[str, str]:
    """The headers a webhook must carry."""
    if secret := settings.bearer_secret.get_secret_value():
        return {"Authorization": f"Bearer {secret}"}
    login = basic_login(settings)
    if login is None:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"}


def _logins(settings: Settings) -> list[tuple[str, str]]:
    logins = [
        (settings.basic_auth_user, settings.basic_auth_pass.get_secret_value()),
        (LOGIN, settings.bearer_secret.get_secret_value()),
    ]
    return [(user, key) for user, key in logins if key]


def _is_login(given: Authorization, user: str, key: str) -> bool:
    same_user, same_key = _same(given.username, user), _same(given.password, key)
    return same_user and same_key  # both compared, so that the time taken does not tell a right user name


def _same(given: str | None, wanted: str) -> bool:
    return hmac.compare_digest((given or "").encode(), wanted.encode())
