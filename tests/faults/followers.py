"""Clients that are told: they follow notifications over SSE, come back when they are cut off, and keep what they saw."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from streammesh.client import MeshClient, Note
from streammesh.errors import MeshUnavailable
from streammesh.notifications import position_key

from tests.faults.load import Sent
from tests.faults.mix import BY_TYPE

WAIT_SECONDS = 40  # for one event's end


@dataclass(slots=True)
class Seen:
    """What one client was told."""

    ids: list[str] = field(default_factory=list)
    about: list[tuple[str, str]] = field(default_factory=list)  # type and event of each
    resyncs: int = 0
    slowest: float = 0.0  # seconds from a notification's own time to the moment in which the client had it


class Follower:
    """Follows everything about events of a type, from the very beginning."""

    def __init__(self, url: str, key: str, event_type: str) -> None:
        self._url, self._key, self._type = url, key, event_type
        self.seen = Seen()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async with MeshClient(self._url, api_key=self._key) as mesh:
            async for note in mesh.notifications(after="0-0", type=self._type):
                if note.type == "resync":
                    self.seen.resyncs += 1
                elif note.id:
                    self.seen.ids.append(note.id)
                    self.seen.about.append((note.type, note.event["id"]))
                    late = time.time() - max(position_key(place)[0] for place in note.id.split(",")) / 1000
                    self.seen.slowest = max(self.seen.slowest, late)

    async def stop_after(self, position: str, seconds: float) -> Seen:
        """Wait until it has seen `position`, at most so long; then end."""
        assert self._task
        deadline = time.monotonic() + seconds
        while not self._task.done() and time.monotonic() < deadline:
            if self.seen.ids and is_reached(position, self.seen.ids[-1]):
                break
            await asyncio.sleep(0.05)
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        return self.seen


def is_reached(position: str, at: str) -> bool:
    """Whether `at` is at or after a position, in every shard."""
    pairs = zip(at.split(","), position.split(","), strict=True)
    return all(position_key(place) >= position_key(wanted) for place, wanted in pairs)


class Waiter:
    """Publishes one event after the other and follows each to its end, until all others have published."""

    def __init__(self, url: str, key: str, source: str, rng: random.Random) -> None:
        self._url, self._key, self._source, self._rng = url, key, source, rng
        self.sent: list[Sent] = []
        self.lost: list[str] = []
        self.doubled: list[str] = []

    async def run(self, published: asyncio.Event) -> None:
        """Until `published` is set."""
        kind = BY_TYPE["fault.slow"]
        async with MeshClient(self._url, api_key=self._key, source=self._source) as mesh:
            while not published.is_set():
                sent = Sent(self._source, f"{self._source}-{len(self.sent)}", kind, time.time())
                self.sent.append(sent)
                data = {"n": len(self.sent), "seconds": self._rng.uniform(0.05, 0.5)}
                while sent.accepted is None:
                    try:
                        await mesh.publish(kind.type, data, id=sent.id)
                        sent.accepted = time.time()
                    except MeshUnavailable:
                        await asyncio.sleep(0.1)
                await self._to_the_end(mesh, sent)

    async def _to_the_end(self, mesh: MeshClient, sent: Sent) -> None:
        notes: list[Note] = []
        try:
            async with asyncio.timeout(WAIT_SECONDS), aclosing(mesh.notifications(event=sent.id)) as stream:
                async for note in stream:
                    notes.append(note)
        except TimeoutError:
            self.lost.append(f"who waited for event {sent.id} was not told its end")
        ids = [note.id for note in notes]
        if len(set(ids)) != len(ids):
            self.doubled.append(f"who waited for event {sent.id} was told something twice: {ids}")
        kinds = [note.type for note in notes]
        wanted = ["task.queued", "task.started", "task.progress", "task.succeeded", "event.completed"]
        missing = [kind for kind in wanted if kind not in kinds]
        if missing and notes:
            self.lost.append(f"who waited for event {sent.id} was not told {missing}")
