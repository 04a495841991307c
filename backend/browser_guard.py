"""Refuse what a browser sends on behalf of a page that is not ours.

A browser sends its login, and reaches addresses that nobody else can, whichever page tells it to:

- A page of another origin may post a form here. The browser names that origin (`Origin`), even when it says
  nothing else (`Sec-Fetch-Site` is left out for a plain-http name): only our own origin may write.
- A page whose name is pointed at this machine after it was loaded (DNS rebinding) has our origin in the eyes of the
  browser. It gives itself away by the name it calls us by (`Host`). A numeric address cannot be rebound.

Every route that takes more than GET, is not called by Label Studio and changes something (`/classify` does not) also asks
for a token (`everylabel.backend.page_token`), without any code of its own. Such a route has to be called with `fetch`: a form on a
page with `Referrer-Policy: no-referrer`, such as ours, sends `Origin: null`.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from werkzeug.wrappers import Request

from everylabel.backend.settings import Settings

OWN_SITE = {None, "same-origin", "none"}
"""The values of `Sec-Fetch-Site` for a request by our own page or its user; Label Studio, no browser, sends none."""
READING = {"GET", "HEAD", "OPTIONS"}
SHOWN = 100
"""How many characters of an unknown name are quoted in the answer."""


def is_foreign(settings: Settings, request: Request) -> bool:
    """Return whether a browser sent this request for a page of another origin."""
    if request.method not in READING and request.headers.get("Sec-Fetch-Site") not in OWN_SITE:
        return True
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    netloc = _netloc(origin)
    own = {request.host.lower(), _netloc(settings.public_url), _netloc(settings.page_browser_url)}
    return not netloc or netloc not in own


def is_known_host(settings: Settings, host: str) -> bool:
    """Return whether a request calls this backend by a name of its own, or by a numeric address.

    Args:
        settings: The settings, which hold the names.
        host: The `Host` header, with or without a port.
    """
    name = _host_name(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = (_host_name(_netloc(url)) for url in (settings.public_url, settings.page_browser_url))
        return name in {"localhost", *own, *settings.allowed_host_names}
    return True


def unknown_host(host: str) -> str:
    """Return the message for a request that calls the backend by another name."""
    return (
        f"This backend has no name {_host_name(host)[:SHOWN]!r}. If it should, set EVERYLABEL_PUBLIC_URL or "
        "EVERYLABEL_PAGE_URL to that address, or add the name to EVERYLABEL_ALLOWED_HOSTS."
    )


def _netloc(url: str) -> str:
    """Return the host and port of an address, or an empty text for what is no address, such as `null`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return ""
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return parts.netloc.lower().removesuffix(default)


def _host_name(host: str) -> str:
    """Return the name or address of a `Host` header."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")
