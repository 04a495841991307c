"""Clients that keep a backend waiting: half a header, a body byte by byte, or nothing at all.

A program of its own, on the standard library alone, so that it takes little from the backend it is used against:

    python tests/measure/slow_client.py PORT HALF_OPEN SLOW_BODIES SILENT

It prints a line once all are connected, and goes on until it is ended. One that is dropped comes again at once.
"""

import asyncio
import resource
import sys

HEAD = b"POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SENT = {
    "half-open": HEAD + b"X-Drip: ",
    "slow body": HEAD + b"Content-Length: 100000\r\n\r\n{",
    "silent": b"",
}
DRIP_SECONDS = 2.0
AT_ONCE = 50
"""How many connect at a time at first."""


async def keep_waiting(port: int, kind: str, connected: asyncio.Semaphore, first: asyncio.Semaphore) -> None:
    """Be one slow client, and come again whenever the backend ends it."""
    while True:
        try:
            async with first:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.5)
            continue
        connected.release()
        try:
            writer.write(SENT[kind])
            while kind != "silent" and not reader.at_eof():
                await asyncio.sleep(DRIP_SECONDS)
                writer.write(b" ")
                await writer.drain()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()


async def main() -> None:
    """Connect all of them and keep them so."""
    port, *numbers = map(int, sys.argv[1:])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    connected, first = asyncio.Semaphore(0), asyncio.Semaphore(AT_ONCE)
    clients = [
        asyncio.create_task(keep_waiting(port, kind, connected, first))
        for kind, many in zip(SENT, numbers, strict=True)
        for _ in range(many)
    ]
    for _ in clients:
        await connected.acquire()
    print("connected", flush=True)  # noqa: T201
    await asyncio.gather(*clients)


if __name__ == "__main__":
    asyncio.run(main())
