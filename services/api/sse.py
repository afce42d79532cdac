"""Server-sent events (WHATWG HTML, 9.2): how a follower's notifications go over one HTTP response.

Ids are positions in the stream of notifications. A block with an `id` and no `data` moves a client's
`Last-Event-ID` on without telling it anything; so one that hears little resumes from a recent position.

What a stream begins with goes out by ASGI. From then on the connection itself is the follower's outlet: what the hub
has is written to it at once, and the request's own coroutine sleeps until the end, outside of the framework.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from streammesh.notifications import LAST_OF_EVENT

from services.api.push.follower import REVOKED, SLOW, STOPPING, UNAVAILABLE, Follower
from services.api.push.hub import Hub
from services.api.push.told import Missed, Stretch, Told, chunk, named

RETRY_MS = (
    500,
    3_000,
)  # a browser waits for so long before it comes back; not all of them at the same moment
HURRY_SECONDS = 1.0  # for what is being sent to a client whose key was revoked
ABORT = "streammesh.abort"  # extension of the ASGI scope: drops the connection, whatever waits to be sent
WIRE = (
    "streammesh.wire"  # another: `call(outlet)` answers the `Wire` of the connection, None where that is lost
)
ASLEEP = "streammesh.asleep"  # among them too: the outlet of a stream that goes on when the application has returned
STREAM_HEADERS = {
    "content-type": "text/event-stream",  # always UTF-8; it takes no charset
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}
WhatBecame = Callable[[], Awaitable[bytes | None]]
_REASONS = {
    SLOW: "you take notifications slower than they come; come back with Last-Event-ID",
    STOPPING: "this replica is stopping; come back with Last-Event-ID",
    REVOKED: "the API key was revoked",
    UNAVAILABLE: "Redis is away; come back with Last-Event-ID",
}


class Wire(Protocol):
    """A connection, as far as a stream needs it."""

    @property
    def is_free(self) -> bool:
        """Whether the client has taken nearly all that was written."""

    def write_chunk(self, data: bytes) -> None:
        """Write a piece of a body, ready as it goes over the wire."""

    def hurry(self, seconds: float) -> None:
        """Drop the connection after this time if it is not free before."""


def reason_of(why: str) -> str:
    """Why a stream was cut from this side, in words."""
    return _REASONS.get(why, why)


def closed(why: str) -> bytes:
    """The last event of a stream that is cut from this side."""
    return named("closed", {"reason": why, "detail": reason_of(why)})


def resync(after: str) -> bytes:
    """Notifications after `after` are gone: what the client knows may be out of date."""
    return Missed(after).frame


def frames(told: Iterable[Told | Missed]) -> bytes:
    """What was taken from a follower, as bytes."""
    return b"".join([one.frame for one in told])


def hello(position: str | None) -> bytes:
    """The first block: how soon to come back, and from where."""
    place = b"" if position is None else b"id: %b\n" % position.encode()
    return b": connected\nretry: %d\n%b\n" % (random.randint(*RETRY_MS), place)


def heartbeat(position: str) -> bytes:
    """A comment, and the position reached."""
    return b": heartbeat\nid: %b\n\n" % position.encode()


@lru_cache(maxsize=8)  # most streams are at the same position
def _heartbeat_chunk(position: str) -> bytes:
    return chunk(heartbeat(position))


class WireOutlet:
    """One HTTP response that goes over a connection of its own until its end."""

    __slots__ = ("_over", "_wire", "stall")

    def __init__(self, stall: float) -> None:
        self.stall = stall
        self._wire: Wire | None = None
        self._over: asyncio.Future[bool] | None = None  # whether the end is to be sent

    def open(self, wire: Wire) -> None:
        """Send by this connection from now on."""
        self._wire, self._over = wire, asyncio.get_running_loop().create_future()

    async def sleep(self, send: Send) -> None:
        """Return when the response has come to its end, or the connection is lost."""
        assert self._over is not None
        if await self._over:
            with suppress(TimeoutError):  # the connection drops itself where the client takes nothing
                async with asyncio.timeout(self.stall):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _wake(self, tell_end: bool) -> None:
        """Have the response come to its end."""
        self._wire = None
        if self._over is not None and not self._over.done():
            self._over.set_result(tell_end)


class SseOutlet(WireOutlet):
    """A follower's outlet into one HTTP response, from the moment at which the beginning has gone out."""

    __slots__ = ("_follower", "_hub", "_looking", "_missed", "_until_completed", "limit")

    def __init__(
        self, hub: Hub, follower: Follower, stall: float, until_completed: bool, missed: WhatBecame | None
    ) -> None:
        super().__init__(stall)
        self._hub, self._follower = hub, follower
        self._until_completed, self._missed = until_completed, missed
        self._looking: asyncio.Task[None] | None = None  # for what was missed
        self.limit: asyncio.Timeout | None = None  # of what is being sent of the beginning
        follower.outlet = self

    @property
    def free(self) -> bool:
        """Whether the client has taken nearly all that was written."""
        return self._wire is not None and self._looking is None and self._wire.is_free

    def tell(self, told: Told | Missed) -> None:
        """Send one."""
        assert self._wire is not None
        self._wire.write_chunk(told.chunk)
        if self._until_completed and isinstance(told, Told) and told.note.type in LAST_OF_EVENT:
            self._finish(True)
        elif self._missed is not None and isinstance(told, Missed):
            self._looking = asyncio.create_task(self._look(self._missed))

    def tell_stretch(self, stretch: Stretch) -> None:
        """Send many."""
        assert self._wire is not None
        self._wire.write_chunk(stretch.chunk)

    def beat(self, position: str) -> None:
        """Show that the connection lives, and how far it is."""
        assert self._wire is not None
        self._wire.write_chunk(_heartbeat_chunk(position))

    def close(self, why: str) -> None:
        """Say why nothing more comes, and end."""
        assert self._wire is not None
        self._wire.write_chunk(chunk(closed(why)))
        self._finish(True)

    def hurry(self) -> None:
        """Drop the connection soon if the client does not take what was written."""
        if self._wire is not None:
            self._wire.hurry(HURRY_SECONDS)
        elif self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + HURRY_SECONDS)

    def resumed(self) -> None:
        """The client has taken what was written."""
        self._follower.flush()

    def lost(self) -> None:
        """The connection is gone."""
        self._finish(False)

    def _finish(self, tell_end: bool) -> None:
        self._hub.close(self._follower)
        if self._looking is not None and self._looking is not asyncio.current_task():
            self._looking.cancel()
        self._wake(tell_end)

    async def _look(self, missed: WhatBecame) -> None:
        ending = await missed()
        self._looking = None
        if ending is not None and self._wire is not None:
            self._wire.write_chunk(chunk(ending))
            self._finish(True)
        else:
            self._follower.flush()


class EventStream(Response):
    """Tells a follower's client what the stream begins with, then what comes.

    `after`: from where to catch up, for a follower that is not attached yet. `is_over`: nothing comes after the
    beginning. `until_completed`: it ends with the last notification of an event; `missed` is asked then what it ends
    with when something of it is gone, None to go on.
    """

    def __init__(
        self,
        hub: Hub,
        follower: Follower,
        beginning: Iterable[bytes],
        stall: float,
        *,
        after: str | None = None,
        is_over: bool = False,
        until_completed: bool = False,
        missed: WhatBecame | None = None,
    ) -> None:
        super().__init__(
            status_code=200,
            headers=STREAM_HEADERS,
        )
        del self.headers["content-length"]
        self._hub, self._follower, self._beginning = hub, follower, beginning
        self._after, self._is_over, self._stall = after, is_over, stall
        self._outlet = SseOutlet(hub, follower, stall, until_completed, missed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the beginning; then the end, or leave the outlet in the scope, for the server to sleep by it."""
        extensions = scope.get("extensions", {})
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            for block in self._beginning:
                if self._follower.ended == REVOKED:
                    break
                if block:
                    await self._send(send, block, more=True)
            if self._is_over:
                await self._send(send, b"", more=False)
            else:
                self._go_on(extensions)
        except TimeoutError:
            self._hub.close(self._follower)
            if ABORT in extensions:
                extensions[ABORT]["call"]()
        except BaseException:
            self._hub.close(self._follower)
            raise
        if self._is_over:
            self._hub.close(self._follower)

    async def _send(self, send: Send, block: bytes, *, more: bool) -> None:
        async with asyncio.timeout(self._stall) as self._outlet.limit:
            await send({"type": "http.response.body", "body": block, "more_body": more})
        self._outlet.limit = None

    def _go_on(self, extensions: dict[str, Any]) -> None:
        wire: Wire | None = extensions[WIRE]["call"](self._outlet)
        if wire is None:
            self._hub.close(self._follower)
            return
        self._outlet.open(wire)
        extensions[ASLEEP] = self._outlet
        self._hub.connect(self._follower, self._outlet)
        if self._after is not None and not self._follower.ended:
            self._hub.follow(self._follower, self._after)
