"""Server-sent events (WHATWG HTML, 9.2): how a follower's notifications go over one HTTP response.

Ids are positions in the stream of notifications. A block with an `id` and no `data` moves a client's
`Last-Event-ID` on without telling it anything; so one that hears little resumes from a recent position.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from streammesh.errors import MeshUnavailable

from services.api.hub import REVOKED, SLOW, STOPPING, Follower, Hub, Missed, Told
from services.api.settings import ApiSettings

RETRY_MS = (
    500,
    3_000,
)  # a browser waits for so long before it comes back; not all of them at the same moment
HURRY_SECONDS = 1.0  # for what is being sent to a client whose key was revoked
ABORT = "streammesh.abort"  # extension of the ASGI scope: drops the connection, whatever waits to be sent
_REASONS = {
    SLOW: "you take notifications slower than they come; come back with Last-Event-ID",
    STOPPING: "this replica is stopping; come back with Last-Event-ID",
    REVOKED: "the API key was revoked",
    "unavailable": "Redis is away; come back with Last-Event-ID",
}


def named(event: str, data: object) -> bytes:
    """An event of the stream itself, without a position."""
    return b"event: %b\ndata: %b\n\n" % (event.encode(), orjson.dumps(data))


def reason_of(why: str) -> str:
    """Why a stream was cut from this side, in words."""
    return _REASONS.get(why, why)


def closed(why: str) -> bytes:
    """The last event of a stream that is cut from this side."""
    return named("closed", {"reason": why, "detail": reason_of(why)})


def resync(after: str) -> bytes:
    """Notifications after `after` are gone: what the client knows may be out of date."""
    return named(
        "resync",
        {"after": after, "detail": "notifications after this position are gone; ask for the state anew"},
    )


def frames(told: list[Told | Missed]) -> bytes:
    """What was taken from a follower, as bytes."""
    return b"".join(resync(one.after) if isinstance(one, Missed) else one.frame for one in told)


def hello(position: str | None) -> bytes:
    """The first block: how soon to come back, and from where."""
    place = b"" if position is None else b"id: %b\n" % position.encode()
    return b": connected\nretry: %d\n%b\n" % (random.randint(*RETRY_MS), place)


def heartbeat(position: str) -> bytes:
    """A comment, and the position reached."""
    return b": heartbeat\nid: %b\n\n" % position.encode()


async def follow(hub: Hub, follower: Follower, after: str, settings: ApiSettings) -> AsyncIterator[bytes]:
    """The blocks of a stream without an end: the past after a position, then what comes."""
    yield hello(after)
    try:
        async for told in hub.attach(follower, after):
            yield frames(told)
    except MeshUnavailable:
        yield closed("unavailable")
        return
    async for heard in listen(hub, follower, settings):
        yield heard if isinstance(heard, bytes) else frames(heard)


async def listen(
    hub: Hub, follower: Follower, settings: ApiSettings
) -> AsyncIterator[list[Told | Missed] | bytes]:
    """What an attached follower gets, and heartbeats and the end as bytes."""
    quiet = settings.heartbeat.total_seconds()
    while True:
        told = await follower.take(quiet)
        if told:
            yield told
        elif follower.ended:
            yield closed(follower.ended)
            return
        else:
            yield heartbeat(hub.resume_position(follower))


class EventStream(Response):
    """Sends blocks until they end, the client goes, or it takes nothing for `stall` seconds."""

    def __init__(
        self, blocks: AsyncIterator[bytes], follower: Follower, close: Callable[[], None], stall: float
    ) -> None:
        super().__init__(
            status_code=200,
            headers={
                "content-type": "text/event-stream",  # always UTF-8; it takes no charset
                "cache-control": "no-store",
                "x-accel-buffering": "no",
            },
        )
        del self.headers["content-length"]
        self._blocks, self._close, self._stall = blocks, close, stall
        self._limit: asyncio.Timeout | None = None
        follower.hurry = self._hurry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = asyncio.create_task(self._send(send))
        watcher = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sender, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done() and isinstance(sender.exception(), TimeoutError):
                abort = scope.get("extensions", {}).get(ABORT)
                if abort:
                    abort["call"]()
                    await watcher
            elif sender.done():
                await sender
        finally:
            self._close()
            for task in (sender, watcher):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for block in self._blocks:
            async with asyncio.timeout(self._stall) as self._limit:
                await send({"type": "http.response.body", "body": block, "more_body": True})
            self._limit = None
        async with asyncio.timeout(self._stall):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _hurry(self) -> None:
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + HURRY_SECONDS)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
