"""One sender of webhooks as Label Studio is: a new connection for each, and the body read to its end.

A program of its own, on the standard library alone, so that eight of them cost what they send and no more:

    python tests/measure/webhook_sender.py PORT TASK... < body.json

It prints the seconds each webhook took, as JSON, after SIGTERM or --seconds.
"""

import argparse
import json
import socket
import sys
import time


def send(port: int, head: bytes, body: bytes) -> float:
    """Post one webhook; returns the seconds until its answer was read."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(head % len(body) + body)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    took = time.perf_counter() - started
    status = answer.split(b" ", 2)[1:2]
    if status != [b"201"]:
        raise SystemExit(f"the webhook was answered {answer[:200]!r}")
    return took


def main() -> None:
    """Send one webhook after the other."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("port", type=int)
    options.add_argument("tasks", type=int, nargs="+", help="annotated in turn")
    options.add_argument("--first-id", type=int, default=1, help="annotations are numbered from here")
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--pause", type=float, default=0, help="between two webhooks; 0: at full speed")
    options.add_argument("--authorization", help="the header to send")
    given = options.parse_args()
    template = json.load(sys.stdin)
    authorization = f"Authorization: {given.authorization}\r\n" if given.authorization else ""
    head = (
        "POST /webhook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\n{authorization}Content-Length: %d\r\n\r\n"
    ).encode()
    taken: list[float] = []
    until = time.monotonic() + given.seconds
    while time.monotonic() < until:
        task = given.tasks[len(taken) % len(given.tasks)]
        template["annotation"] |= {"id": given.first_id + len(taken), "task": task}
        template["task"]["id"] = task
        taken.append(send(given.port, head, json.dumps(template).encode()))
        time.sleep(given.pause)
    json.dump(taken, sys.stdout)


if __name__ == "__main__":
    main()
