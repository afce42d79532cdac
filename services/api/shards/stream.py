"""One stream of the notifications of all shards, each of which has a hub and a follower of its own.

A position names a place in every shard, with commas between. What one shard tells comes in its order; between shards
there is no order but that of telling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from streammesh.api_keys import ApiKey
from streammesh.notifications import Filter

from services.api.parameters import position_since
from services.api.problems import Problem
from services.api.push.follower import Follower
from services.api.push.hub import Hub
from services.api.push.told import Missed, Stretch, Told, chunk
from services.api.shards.joined_answers import SEPARATOR, joined_position
from services.api.sse import (
    ABORT,
    ASLEEP,
    HURRY_SECONDS,
    STREAM_HEADERS,
    WIRE,
    Wire,
    WireOutlet,
    closed,
    heartbeat,
    hello,
)
from services.api.state import Wiring

ALL = ("0-0",)


def positions_of(name: str, position: str | None, newest: Sequence[str]) -> list[str]:
    """Return each shard's place in a position; the newest where there is none. Raises Problem (400)."""
    if position is None:
        return list(newest)
    parts = position.split(SEPARATOR)
    if tuple(parts) == ALL:
        return list(ALL) * len(newest)
    if len(parts) != len(newest):
        detail = f"names {len(parts)} places, and the mesh has {len(newest)} shards"
        raise Problem("malformed-request", f"{name}: {detail}.", [{"parameter": name, "detail": detail}])
    return parts


class ShardOutlet:
    """The outlet of one shard's follower into the stream of all."""

    __slots__ = ("_number", "_stream")

    def __init__(self, stream: JoinedOutlet, number: int) -> None:
        self._stream, self._number = stream, number

    @property
    def free(self) -> bool:
        """Whether the client has taken nearly all that was written."""
        return self._stream.is_free

    def tell(self, told: Told | Missed) -> None:
        """Send one, under the position of all shards."""
        self._stream.write(self._number, told)

    def tell_stretch(self, stretch: Stretch) -> None:
        """Send many."""
        for told in stretch.told:
            self._stream.write(self._number, told)

    def beat(self, position: str) -> None:
        """Show that the connection lives; the first shard does it for all."""
        self._stream.beat(self._number, position)

    def close(self, why: str) -> None:
        """Say why nothing more comes, and end."""
        self._stream.close(why)

    def hurry(self) -> None:
        """Drop the connection soon if the client does not take what was written."""
        self._stream.hurry()


class JoinedOutlet(WireOutlet):
    """The connection's outlet: what the server tells it goes to each shard's follower."""

    def __init__(self, pairs: Sequence[tuple[Hub, Follower]], places: Sequence[str], stall: float) -> None:
        super().__init__(stall)
        self._pairs, self._places = pairs, list(places)
        for number, (_, follower) in enumerate(pairs):
            follower.outlet = ShardOutlet(self, number)

    @property
    def is_free(self) -> bool:
        """Whether the client has taken nearly all that was written."""
        return self._wire is not None and self._wire.is_free

    def write(self, number: int, told: Told | Missed) -> None:
        """Send what one shard tells."""
        if self._wire is None:
            return
        if isinstance(told, Told):
            self._places[number] = told.note.id
            joined = Told.of(replace(told.note, id=joined_position(self._places)), at=told.at)
            self._wire.write_chunk(joined.chunk)
        else:
            after = [*self._places[:number], told.after, *self._places[number + 1 :]]
            self._wire.write_chunk(Missed(joined_position(after)).chunk)

    def beat(self, number: int, position: str) -> None:
        """Show how far all shards are."""
        self._places[number] = position
        if number == 0 and self._wire is not None:
            places = [hub.resume_position(follower) for hub, follower in self._pairs]
            self._wire.write_chunk(chunk(heartbeat(joined_position(places))))

    def close(self, why: str) -> None:
        """Say why nothing more comes, and end."""
        if self._wire is not None:
            self._wire.write_chunk(chunk(closed(why)))
        self._finish(True)

    def hurry(self) -> None:
        """Drop the connection soon if the client does not take what was written."""
        if self._wire is not None:
            self._wire.hurry(HURRY_SECONDS)

    def resumed(self) -> None:
        """The client has taken what was written."""
        for _, follower in self._pairs:
            follower.flush()

    def lost(self) -> None:
        """The connection is gone."""
        self._finish(False)

    def _finish(self, tell_end: bool) -> None:
        for hub, follower in self._pairs:
            hub.close(follower)
        self._wake(tell_end)


class ShardedStream(Response):
    """Tells a client what comes after a place in each shard, then what comes."""

    def __init__(self, pairs: Sequence[tuple[Hub, Follower]], places: Sequence[str], stall: float) -> None:
        super().__init__(status_code=200, headers=STREAM_HEADERS)
        del self.headers["content-length"]
        self._pairs, self._places, self._stall = pairs, places, stall
        self._outlet = JoinedOutlet(pairs, places, stall)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the beginning, and leave the outlet in the scope, for the server to sleep by it."""
        extensions = scope.get("extensions", {})
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with asyncio.timeout(self._stall):
                block = hello(joined_position(self._places))
                await send({"type": "http.response.body", "body": block, "more_body": True})
            wire: Wire | None = extensions[WIRE]["call"](self._outlet)
        except TimeoutError:
            self._outlet.lost()
            if ABORT in extensions:
                extensions[ABORT]["call"]()
            return
        except BaseException:
            self._outlet.lost()
            raise
        if wire is None:
            self._outlet.lost()
            return
        self._outlet.open(wire)
        extensions[ASLEEP] = self._outlet
        for (hub, follower), place in zip(self._pairs, self._places, strict=True):
            hub.connect(follower, follower.outlet or ShardOutlet(self._outlet, 0))
            if not follower.ended:
                hub.follow(follower, place)


async def follow_all(
    wirings: Sequence[Wiring], key: ApiKey, wanted: Filter, begin: str | None, since: datetime | None
) -> Response:
    """Follow all shards by one stream. Raises Problem, and MeshUnavailable."""
    pairs = []
    try:
        for wiring in wirings:
            pairs.append((wiring.hub, wiring.hub.open(key, wanted)))
        newest = await asyncio.gather(*(wiring.hub.ensure_reading() for wiring in wirings))
        if begin is None and since is not None:
            places = [position_since(since, last) for last in newest]
        else:
            places = positions_of("after", begin, newest)
    except BaseException:
        for hub, follower in pairs:
            hub.close(follower)
        raise
    return ShardedStream(pairs, places, wirings[0].api.stall.total_seconds())
