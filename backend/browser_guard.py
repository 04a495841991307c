"""What a browser is kept from doing on behalf of a page that is not ours.

A browser sends its login, and reaches addresses that nobody else does, whichever page tells it to:

- A page of another origin may post a form here. The browser names that origin (`Origin`), also where it says
  nothing else (`Sec-Fetch-Site` is left out to a plain-http name): only our own may write.
- A page whose name is pointed at this machine after it was loaded (DNS rebinding) is of our origin, for the browser.
  It gives itself away by the name it calls us by (`Host`). An address in digits cannot be rebound.

A route by which the page itself writes asks for a token besides (`everylabel.backend.page_token`), without a word of its own: all do
that take anything but GET and that Label Studio does not call. Let it be called with `fetch`: a form of a page with
`Referrer-Policy: no-referrer`, as ours, sends `Origin: null`.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from werkzeug.wrappers import Request

from everylabel.backend.settings import Settings

OWN_SITE = {None, "same-origin", "none"}
"""What a browser says of a request by our own page, or by its user; Label Studio is no browser and says nothing."""
READING = {"GET", "HEAD", "OPTIONS"}
SHOWN = 100
"""Letters of a name that are repeated to whoever sent it."""


def is_foreign(settings: Settings, request: Request) -> bool:
    """Return whether a page of another origin has a browser send this."""
    if request.method not in READING and request.headers.get("Sec-Fetch-Site") not in OWN_SITE:
        return True
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    netloc = _netloc(origin)
    own = {request.host.lower(), _netloc(settings.public_url), _netloc(settings.page_browser_url)}
    return not netloc or netloc not in own


def is_known_host(settings: Settings, host: str) -> bool:
    """Return whether this backend is called by a name of its own, or by an address in digits.

    Args:
        settings: which say its names.
        host: the header, with or without a port.
    """
    name = _host_name(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = (_host_name(_netloc(url)) for url in (settings.public_url, settings.page_browser_url))
        return name in {"localhost", *own, *settings.allowed_host_names}
    return True


def unknown_host(host: str) -> str:
    """Return what somebody reads who calls the backend by another name."""
    return (
        f"This backend has no name {_host_name(host)[:SHOWN]!r}. If it should, set EVERYLABEL_PUBLIC_URL or "
        "EVERYLABEL_PAGE_URL to that address, or add the name to EVERYLABEL_ALLOWED_HOSTS."
    )


def _netloc(url: str) -> str:
    """Return the host and port of an address, or something that is no host: for `null`, for example."""
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
