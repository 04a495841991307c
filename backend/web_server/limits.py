"""Limits of a client's time, and of the bytes of its requests that are held at once."""

from __future__ import annotations

import resource
from dataclasses import dataclass

DESCRIPTORS_FOR_OTHERS = 256
"""File descriptors left to what is no connection: the store, the logs, images on their way."""
FEWEST_CONNECTIONS = 16


@dataclass(frozen=True)
class Limits:
    """Limits that one worker sets its clients; time in seconds, sizes in bytes.

    Attributes:
        header_seconds: from the first byte of a request (or the connection) to the end of its header.
        body_seconds: from there to the end of its body.
        answer_seconds: for the client to read the answer.
        idle_seconds: between two requests on one connection.
        linger_seconds: for a client that was refused in the middle of a request to read why.
        stop_seconds: for requests on their way when the worker is told to stop.
        header_bytes: the longest header.
        body_bytes: the largest body.
        small_body_bytes: bodies up to this size are taken in however many large ones there are.
        held_bytes: bodies held at a time, in sum over all connections, until they are answered: JSON of many short texts
            takes ten times its size once it is read.
        connections: open at a time; above this the one that has been waited for longest is dropped.
    """

    header_seconds: float = 10.0
    body_seconds: float = 60.0
    answer_seconds: float = 60.0
    idle_seconds: float = 75.0
    linger_seconds: float = 2.0
    stop_seconds: float = 10.0
    header_bytes: int = 64 * 1024
    body_bytes: int = 64 * 1024 * 1024
    small_body_bytes: int = 128 * 1024
    held_bytes: int = 128 * 1024 * 1024
    connections: int = 1000


def affordable_connections(wanted: int) -> int:
    """Raise this process's limit on open files as far as `wanted` connections need; return how many it then allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + DESCRIPTORS_FOR_OTHERS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(FEWEST_CONNECTIONS, min(wanted, soft - DESCRIPTORS_FOR_OTHERS))
