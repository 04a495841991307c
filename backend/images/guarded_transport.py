"""Requests to addresses that task data names: the public internet only, checked where a socket connects.

Label Studio's own rule (`core/utils/io.py`, `validate_ip`): a reserved network address is refused. The name is
resolved once, and the connection goes to the address that was checked, so that a name that resolves differently
the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from everylabel.backend.http_transport import PoolTransport, PromptNetwork, StreamAround

# What Label Studio 1.23.2 bans by default and some Python's `is_global` lets through; IPv4 in disguise.
RESERVED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "224.0.0.0/4",
        "233.252.0.0/24",
        "::ffff:0:0/96",
        "::ffff:0:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2001::/32",
        "2001:20::/28",
        "2002::/16",
        "fec0::/10",
        "ff00::/8",
    )
)


class ReservedAddressError(Exception):
    """A host name resolves to an address of a private, loopback, link-local or otherwise reserved network."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} is on a private or reserved network")
        self.host = host


class DeadlineError(Exception):
    """The whole of a request took longer than allowed, however steadily its bytes dripped."""


def is_reserved(address: str) -> bool:
    """Return True if Label Studio would refuse to connect to this IP address."""
    ip = ipaddress.ip_address(address)
    return not ip.is_global or any(ip in network for network in RESERVED_NETWORKS)


class GuardedTransport(PoolTransport):
    """An httpx transport that connects to public addresses only and keeps a deadline for a whole request.

    A request's deadline is `extensions={"deadline": time.monotonic() + seconds}`. Safe to share between
    threads. Proxy settings of the environment are not used: a proxy would resolve names by itself.

    Raises:
        ReservedAddressError: the host's name stands for a reserved address.
        DeadlineError: the deadline passed.
        httpx.TransportError: anything else that goes wrong on the way.
    """

    def __init__(self, *, allow_private_addresses: bool = False) -> None:
        self._deadlines = _Deadlines()
        super().__init__(_GuardedNetwork(self._deadlines, allow_private_addresses))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; redirects come back as they are."""
        self._deadlines.at = request.extensions.get("deadline")
        return super().handle_request(request)


class _Deadlines(threading.local):
    """The deadline of the current thread's request; httpcore runs a request in the thread that sent it."""

    at: float | None = None

    def shorten(self, timeout: float | None) -> float | None:
        if self.at is None:
            return timeout
        left = self.at - time.monotonic()
        if left <= 0:
            raise DeadlineError
        return left if timeout is None else min(timeout, left)


class _GuardedNetwork(httpcore.NetworkBackend):
    def __init__(self, deadlines: _Deadlines, allow_private_addresses: bool) -> None:
        self._network = PromptNetwork()
        self._deadlines = deadlines
        self._allow_private_addresses = allow_private_addresses

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host} cannot be resolved") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        # One reserved record among public ones is how rebinding starts: refuse all, as Label Studio does.
        if not self._allow_private_addresses and any(is_reserved(address) for address in addresses):
            raise ReservedAddressError(host)
        failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses:
            try:
                stream = self._network.connect_tcp(
                    address, port, self._deadlines.shorten(timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _GuardedStream(stream, self._deadlines)
        raise failure or httpcore.ConnectError(f"the name {host} has no address")


class _GuardedStream(StreamAround):
    """A connection on which every wait ends at the deadline of its request."""

    def __init__(self, stream: httpcore.NetworkStream, deadlines: _Deadlines) -> None:
        super().__init__(stream)
        self._deadlines = deadlines

    def around(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        return _GuardedStream(stream, self._deadlines)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return super().read(max_bytes, self._deadlines.shorten(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        super().write(buffer, self._deadlines.shorten(timeout))

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return super().start_tls(ssl_context, server_hostname, self._deadlines.shorten(timeout))
