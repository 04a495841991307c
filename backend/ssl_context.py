"""The certificates that this process trusts, read once: they take some 50 ms, and every client needs them."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def ssl_context() -> ssl.SSLContext:
    """Return what every client of this process verifies servers by; safe to share between threads.

    The same certificates as httpx takes by itself: those that SSL_CERT_FILE or SSL_CERT_DIR name, or certifi's.
    """
    return httpx.create_ssl_context()
