"""Connections that speak anything but HTTP, or stop in the middle of it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.fuzz.api_process import KEY, SOON, ApiProcess, count, running, thrown_at
from tests.fuzz.http_requests import Sayings
from tests.fuzz.tally import Tally

AT_ONCE = 32
HEAD_SECONDS = 20.0  # services.api.server: who has not said by then what it wants is disconnected
LEFT_OPEN = 200  # connections that stay silent in the middle of a head, at most
POST = b"POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer " + KEY.encode() + b"\r\n"
PIECES = (
    *(
        b"GET / HTTP/1.1\r\n",
        b"host: x\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n",
        b"ffffffffffffffff\r\n",
    ),
    *(
        b"transfer-encoding: chunked\r\n",
        b"content-length: 5\r\n",
        b"content-length: -1\r\n",
        b"connection: close\r\n",
    ),
    *(
        b"expect: 100-continue\r\n",
        b"upgrade: websocket\r\nconnection: upgrade\r\n",
        b"x: " + b"a" * 9_000 + b"\r\n",
    ),
    *(
        b"HTTP/0.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"\x00",
        b"\xff",
        b":",
        b" ",
    ),
    *(
        b"1;" + b"e" * 9_000 + b"\r\na\r\n",
        b"x-trailer: y\r\n",
        b'{"type":"a.b"}',
        POST,
        b"CONNECT a:1 HTTP/1.1\r\n",
    ),
)


class Noise:
    """Makes bytes for a connection. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random, self._sayings = random.Random(seed), Sayings(seed)

    def bytes(self) -> bytes:
        """What one connection says before it ends."""
        pick = self._random
        kind = pick.random()
        if kind < 0.2:
            return pick.randbytes(pick.randrange(1, 3_000))
        if kind < 0.5:
            return b"".join(pick.choices(PIECES, k=pick.randrange(1, 12)))
        request = self._sayings.request().replace(b"connection: close\r\n", b"")
        if kind < 0.75:  # several on one connection, the last one cut
            request = request * pick.randrange(1, 4)
        at = pick.randrange(len(request))
        return request[:at] if pick.random() < 0.5 else request[:at] + pick.randbytes(3) + request[at:]


async def run(seed: int, seconds: float, folder: Path) -> Tally:
    """Open such connections for a time; each ends soon after its client does, or after the time that a head has."""
    tally, noise = Tally("sockets"), Noise(seed)
    silent: list[asyncio.Task[None]] = []
    with running(folder) as api:

        async def throw() -> None:
            said = noise.bytes()
            count(tally, said, await api.say(said, SOON, end=True))
            if len(silent) < LEFT_OPEN and tally.requests % 10 == 0:
                silent.append(asyncio.create_task(_stay_silent(api, tally)))

        await thrown_at(api, tally, seconds, throw, AT_ONCE)
        await asyncio.gather(*silent)
    return tally


async def _stay_silent(api: ApiProcess, tally: Tally) -> None:
    said = b"GET /healthz HTTP/1.1\r\nhost:"
    count(tally, said, await api.say(said, HEAD_SECONDS + SOON))
