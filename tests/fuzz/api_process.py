"""One API on a private Redis, and the bytes that go to it and come back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from streammesh.embedded import EmbeddedServer

from tests.fuzz.tally import Tally, resident_mb
from tests.harness.processes import MeshProcess

READY_SECONDS = 30.0
SOON = 5.0  # seconds in which a request is answered
PROBE_EVERY = 500  # requests
WARM_UP = 0.2  # of the time: caches and pools fill
KEY = "smk_fuzz-key-of-an-admin-0123456789"
_PORT = re.compile(r"url=http://127\.0\.0\.1:(\d+)")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n((?:[^\r]+\r\n)*)\r\n")


@dataclass(slots=True)
class ApiProcess:
    """A running API."""

    process: MeshProcess
    port: int

    @property
    def memory_mb(self) -> float:
        """Its resident memory."""
        return resident_mb(self.process.pid)

    async def healthy(self) -> bool:
        """Whether it still does what it is for: an event is accepted, under an id of its own, and found again."""
        event_id = f"probe-{time.time_ns()}"
        body = b'{"type":"probe.made","id":"%b"}' % event_id.encode()
        head = b"POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n" % KEY.encode()
        head += b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            body
        )
        get = (
            b"GET /v1/events/%b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\nconnection: close\r\n\r\n"
        )
        sent = await self.say(head + body, SOON)
        found = await self.say(get % (event_id.encode(), KEY.encode()), SOON)
        return statuses(sent or b"") == [202] and statuses(found or b"") == [200]

    async def say(self, request: bytes, seconds: float, *, end: bool = False) -> bytes | None:
        """Send bytes and take all that comes until the server closes; None when it does not within `seconds`."""
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    with suppress(OSError):
                        writer.write(request)
                        if end:
                            writer.write_eof()
                    with suppress(ConnectionError):
                        while part := await reader.read(65_536):
                            parts.append(part)
                finally:
                    writer.transport.abort()
        except TimeoutError:
            return None
        return b"".join(parts)


def statuses(answer: bytes) -> list[int]:
    """The status of every answer in what a server sent, in order."""
    return [int(found[1]) for found in _STATUS.finditer(answer)]


def wrong(answer: bytes) -> Iterator[str]:
    """What an answer says that it should not: a refusal that is no problem document, a fault of the server's."""
    for found in _STATUS.finditer(answer):
        status = int(found[1])
        if status >= 500 and status != 503:
            yield f"{status}: {answer[found.end() :][:200]!r}"
        elif status >= 400 and b"application/problem+json" not in found[2]:
            yield f"{status} is no problem document: {answer[: found.end() + 100]!r}"


def count(tally: Tally, request: bytes, answer: bytes | None) -> None:
    """Note what came of one request."""
    tally.requests += 1
    if answer is None:
        tally.hangs += 1
        tally.failures.append(f"no answer to {request[:300]!r}")
        return
    for problem in wrong(answer):
        if problem[0] == "5":
            tally.server_errors += 1
        tally.failures.append(f"{problem} to {request[:300]!r}")


async def thrown_at(
    api: ApiProcess, tally: Tally, seconds: float, throw: Callable[[], Awaitable[None]], at_once: int
) -> None:
    """Throw for a time, some at once; see now and then, and at the end, that a good event is served.

    Memory is measured from when caches and pools have filled.
    """
    ends = time.monotonic() + seconds
    warm_at, began_with = time.monotonic() + seconds * WARM_UP, None

    async def client() -> None:
        while time.monotonic() < ends:
            await throw()
            if tally.requests % PROBE_EVERY == 0 and not await api.healthy():
                tally.failures.append("a good event was not served")

    clients = [asyncio.create_task(client()) for _ in range(at_once)]
    while time.monotonic() < ends:
        await asyncio.sleep(0.1)
        if began_with is None and time.monotonic() > warm_at:
            began_with = api.memory_mb
    await asyncio.gather(*clients)
    if not await api.healthy():
        tally.failures.append("a good event was not served at the end")
    tally.growth_mb = api.memory_mb - (began_with or api.memory_mb)


@contextmanager
def running(folder: Path) -> Iterator[ApiProcess]:
    """Start an API with a Redis of its own, wait until it listens, and end both."""
    with EmbeddedServer(folder / "redis", appendonly=False) as server:
        process = MeshProcess(
            "api",
            "services.api",
            {
                "MESH_REDIS_URL": server.url,
                "MESH_NAMESPACE": "fuzz",
                "MESH_LOG_FORMAT": "console",
                "API_PORT": "0",
                "API_ADMIN_KEY": KEY,
                "REPORT_STORE_URL": str(folder / "store"),
            },
            folder,
        )
        process.log.unlink(missing_ok=True)
        process.start()
        try:
            yield ApiProcess(process, _listening(process))
        finally:
            process.stop()


def _listening(process: MeshProcess) -> int:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.running:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", process.log.read_text("utf-8", "replace"))
        if found := _PORT.search(plain):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"the API did not start; see {process.log}")
