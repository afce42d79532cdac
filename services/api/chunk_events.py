"""A stream of a task as server-sent events: `chunk`, `epoch` when it begins anew, `end` when its task has ended."""

from __future__ import annotations

import asyncio

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from streammesh.errors import MeshUnavailable
from streammesh.tasks.records import TaskRow

from services.api.chunk_reader import Chunk, ChunkBell, ChunkReader, Look
from services.api.push.follower import UNAVAILABLE, Follower
from services.api.push.hub import Hub
from services.api.push.told import Missed, Stretch, Told, named
from services.api.sse import ABORT, closed, hello


def chunk_frame(chunk: Chunk) -> bytes:
    """Its `id` is the offset to resume from; it comes last, as in notifications."""
    data = orjson.dumps(
        {"epoch": chunk.at[0], "offset": chunk.offset, "kind": chunk.kind, "data": chunk.data}
    )
    return b"event: chunk\ndata: %b\nid: %b\n\n" % (data, chunk.offset.encode())


def frames_of(look: Look, after: tuple[int, int]) -> bytes:
    """What a look found, each new epoch told before its first chunk."""
    epoch, parts = 0 if look.restarted else after[0], list[bytes]()
    for chunk in look.chunks:
        if chunk.at[0] != epoch:
            epoch = chunk.at[0]
            parts.append(named("epoch", {"epoch": epoch}))
        parts.append(chunk_frame(chunk))
    return b"".join(parts)


class ChunkEvents(Response):
    """Tells a client what a stream has after a position, then what comes, until its task has ended.

    Its follower takes a slot, and says when the key was revoked or this replica stops; notifications it gets none.
    """

    free = True

    def __init__(
        self,
        hub: Hub,
        follower: Follower,
        reader: ChunkReader,
        bell: ChunkBell,
        task: TaskRow,
        name: str,
        after: tuple[int, int],
        stall: float,
        heartbeat: float,
    ) -> None:
        super().__init__(
            status_code=200,
            headers={
                "content-type": "text/event-stream",
                "cache-control": "no-store",
                "x-accel-buffering": "no",
            },
        )
        del self.headers["content-length"]
        self._hub, self._follower, self._reader, self._bell = hub, follower, reader, bell
        self._task, self._name, self._after = task, name, after
        self._stall, self._heartbeat = stall, heartbeat
        self._woken, self._why, self._gone = asyncio.Event(), "", False
        follower.outlet = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, or until the client is gone."""
        watching = asyncio.create_task(self._watch(receive))
        try:
            async with self._bell.heard(self._task.id, self._woken):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send(send, hello(None))
                await self._follow(send)
            if not self._gone:
                await self._send(send, b"", more=False)
        except TimeoutError:
            if ABORT in scope.get("extensions", {}):
                scope["extensions"][ABORT]["call"]()
        finally:
            watching.cancel()
            self._hub.close(self._follower)

    async def _follow(self, send: Send) -> None:
        while not self._gone:
            self._woken.clear()
            if self._why:
                await self._send(send, closed(self._why))
                return
            try:
                look = await self._reader.look(self._task.id, self._name, self._after)
            except MeshUnavailable:
                await self._send(send, closed(UNAVAILABLE))
                return
            told = frames_of(look, self._after)
            self._after = look.at
            if told:
                await self._send(send, told)
            if look.is_whole and look.state:
                state = self._task.state.value if look.state == "gone" else look.state
                await self._send(send, named("end", {"state": state, "epoch": self._after[0]}))
                return
            if look.is_whole:
                await self._wait(send)

    async def _wait(self, send: Send) -> None:
        try:
            async with asyncio.timeout(self._heartbeat):
                await self._woken.wait()
        except TimeoutError:
            await self._send(send, b": heartbeat\n\n")

    async def _send(self, send: Send, block: bytes, *, more: bool = True) -> None:
        async with asyncio.timeout(self._stall):
            await send({"type": "http.response.body", "body": block, "more_body": more})

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._woken.set()

    def close(self, why: str) -> None:
        """End it, saying why: the hub does so when this replica stops or the key was revoked."""
        self._why = why
        self._woken.set()

    def tell(self, told: Told | Missed) -> None:
        """Nothing: it is told of no notifications."""

    def tell_stretch(self, stretch: Stretch) -> None:
        """Nothing."""

    def beat(self, position: str) -> None:
        """Nothing: it has heartbeats of its own."""

    def hurry(self) -> None:
        """Nothing: what is being sent has its own limit."""
