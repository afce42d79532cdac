"""`ctx.stream(name)`: chunks to clients while a handler runs, bounded and under its attempt's fencing token."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from streammesh import plain_json
from streammesh.errors import Fail, LeaseLost, Stopped

MOST_CHUNKS = 10_000  # of one stream
MOST_BYTES = 4_194_304  # of one stream
CHUNK_BYTES = 65_536  # of one chunk
MOST_STREAMS = 16  # of one task
BATCH_CHUNKS, BATCH_BYTES = (
    256,
    262_144,
)  # that wait before `send` does; what one batch has at most is a chunk more
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class ChunkBounds:
    """Counts what one attempt writes to one stream."""

    def __init__(self, name: str) -> None:
        self._name, self._chunks, self._bytes = name, 0, 0

    def pieces(self, chunks: Iterable[Any]) -> list[bytes]:
        """Return chunks as they are written: a letter that says of which kind, and the bytes. Raises Fail."""
        made = [self._piece(chunk) for chunk in chunks]
        size = sum(map(len, made))
        if self._chunks + len(made) > MOST_CHUNKS or self._bytes + size > MOST_BYTES:
            raise Fail(
                f"the stream {self._name!r} takes {MOST_CHUNKS:,} chunks and {MOST_BYTES:,} bytes of one attempt; send fewer "
                "and larger ones, or put what is large into a store"
            )
        self._chunks, self._bytes = self._chunks + len(made), self._bytes + size
        return made

    def _piece(self, chunk: Any) -> bytes:
        try:
            if isinstance(chunk, str):
                made = b"t" + chunk.encode()
            elif isinstance(chunk, bytes | bytearray | memoryview):
                made = b"b" + bytes(chunk)
            else:
                made = b"j" + plain_json.dumps(chunk)
        except (TypeError, ValueError) as error:
            raise Fail(
                f"a chunk of the stream {self._name!r} is text, bytes or JSON, and this {type(chunk).__name__} is none: "
                f"{error}"[:400]
            ) from None
        if len(made) > CHUNK_BYTES:
            raise Fail(
                f"a chunk of the stream {self._name!r} has {len(made):,} bytes, and {CHUNK_BYTES:,} fit; send it in parts"
            )
        return made


class SyncChunkStream:
    """The stream of a `def` handler: each `send` is one round trip, of however many chunks."""

    def __init__(self, name: str, write: Callable[[int, Sequence[bytes]], None]) -> None:
        self._bounds, self._write, self._next = ChunkBounds(name), write, 1

    def send(self, *chunks: Any) -> None:
        """Append chunks: text, bytes or what is JSON. Raises Fail beyond the bounds, LeaseLost when this attempt is past."""
        pieces = self._bounds.pieces(chunks)
        if pieces:
            first, self._next = self._next, self._next + len(pieces)
            self._write(first, pieces)


class ChunkStream:
    """The stream of an `async def` handler: what is sent while a batch is on its way goes together with the next."""

    def __init__(self, name: str, write: Callable[[int, Sequence[bytes]], Coroutine[Any, Any, None]]) -> None:
        self._bounds, self._write, self._next = ChunkBounds(name), write, 1
        self._waiting: list[bytes] = []
        self._size = 0
        self._sending: asyncio.Task[None] | None = None

    async def send(self, *chunks: Any) -> None:
        """Append chunks: text, bytes or what is JSON; waits only while much is on its way.

        Raises Fail beyond the bounds, LeaseLost when this attempt is past.
        """
        self._raise_failure()
        pieces = self._bounds.pieces(chunks)
        self._waiting += pieces
        self._size += sum(map(len, pieces))
        if self._waiting and self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        while self._sending is not None and (len(self._waiting) >= BATCH_CHUNKS or self._size >= BATCH_BYTES):
            await asyncio.wait([self._sending])
            self._raise_failure()

    async def flush(self) -> None:
        """Return when all that was sent is written. Raises as `send`."""
        while self._sending is not None:
            await asyncio.wait([self._sending])
            self._raise_failure()

    def drop(self) -> None:
        """Give up what waits: the handler was stopped."""
        self._waiting, self._size = [], 0
        if self._sending is not None:
            self._sending.cancel()

    def _raise_failure(self) -> None:
        done = self._sending
        if done is None or not done.done():
            return
        self._sending = None
        if done.cancelled():
            raise Stopped
        if (error := done.exception()) is not None:
            raise error

    async def _send_all(self) -> None:
        while self._waiting:
            batch, self._waiting, self._size = self._waiting, [], 0
            first, self._next = self._next, self._next + len(batch)
            await self._write(first, batch)


def check_written(name: str, verdict: str) -> None:
    """Raise what follows where a batch was not taken."""
    if verdict == "done":
        return
    if verdict == "cancelled":
        raise Stopped
    if verdict == "full":
        raise Fail(f"the task has as many streams as it may; {name!r} is one too many")
    raise LeaseLost("another attempt of this task is the current one")


def check_stream_name(name: object) -> str:
    """Return the name of a stream. Raises Fail for one that cannot be: it stands in addresses."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Fail(f"a stream has a name of 1 to 64 letters, digits and '_.-', not {name!r:.100}")
    return name
