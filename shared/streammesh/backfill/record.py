"""Backfills as Redis keeps them: begun, looked at, ended. The callers of the scripts around `backfill.lua`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import redis.asyncio
import structlog

from streammesh import lua, names
from streammesh.backfill.places import Place, parse_place
from streammesh.errors import MeshError
from streammesh.events.publisher import ms
from streammesh.keys import Keys
from streammesh.lua.backfills import (
    CreateBackfillScript,
    EndBackfillScript,
    NoteBackfillScript,
    TakeBackfillScript,
)
from streammesh.redisio.answers import there

LISTED = 200  # backfills
KEPT = timedelta(days=30)  # after it ended
COUNTS = ("events", "tasks", "known", "live", "left_out")
LONGEST = 512  # characters of a field
log = structlog.get_logger(__name__)


class BackfillState(StrEnum):
    """Where a backfill stands."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"  # by somebody, or since its service was removed


class BackfillRunning(MeshError):
    """The service has a backfill that runs; it has one at a time."""

    def __init__(self, service: str, running: str) -> None:
        self.running = running
        super().__init__(f"{service} has a backfill that runs already: {running}")


class UnknownService(MeshError):
    """No worker of this service has registered."""


@dataclass(frozen=True, slots=True)
class Backfill:
    """One backfill. Times are ms; `before` is not included; `waits` says in words why it does not go on now.

    Counts: `events` that it looked at, `tasks` that it handed over, `known` deliveries that had run or waited already, `live`
    events that were left to the service's live way, `left_out` events of which nothing says what ran.
    """

    id: str
    service: str
    pattern: str
    since: int
    before: int
    rate: float | None
    by: str
    state: BackfillState
    position: Place
    created: int
    ended: int | None = None
    reason: str = ""
    waits: str = ""
    events: int = 0
    tasks: int = 0
    known: int = 0
    live: int = 0
    left_out: int = 0
    again: tuple[str, ...] = ()  # of a replay: the states of the tasks that begin anew
    task: str = "*"  # glob over the names of tasks
    parts: tuple[float, ...] = ()  # how much each shard has gone through, where there are several

    @property
    def fraction(self) -> float:
        """How much of its time it has gone through, 0 to 1."""
        if self.state is BackfillState.DONE:
            return 1.0
        if self.parts:
            return sum(self.parts) / len(self.parts)
        span = self.before - self.since
        return min(1.0, max(0.0, (self.position.at - self.since) / span)) if span > 0 else 0.0


def parse_backfill(backfill_id: str, row: dict[bytes, bytes]) -> Backfill | None:
    """A row as stored; None where there is none, and where it cannot be read, which is said."""
    if not row:
        return None
    text = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in row.items()}
    try:
        counts: dict[str, Any] = {name: _number(text.get(name, "0")) for name in COUNTS}
        if any(len(value) > LONGEST for value in text.values()) or not names.SERVICE.match(text["service"]):
            raise ValueError("a field is not of ours")
        return Backfill(
            id=backfill_id,
            service=text["service"],
            pattern=text["pattern"],
            since=_number(text["since"]),
            before=_number(text["before"]),
            rate=float(text["rate"]) if text.get("rate") else None,
            by=text.get("by", ""),
            state=BackfillState(text["state"]),
            position=parse_place(text["position"]),
            created=_number(text["created"]),
            ended=_number(text["ended"]) if "ended" in text else None,
            reason=text.get("reason", ""),
            waits=text.get("waits", ""),
            again=tuple(text["again"].split(",")) if text.get("again") else (),
            task=text.get("task", "*"),
            **counts,
        )
    except (KeyError, ValueError) as error:
        log.error("backfill.unreadable", backfill=backfill_id[:64], reason=repr(error)[:200])
        return None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError(f"{text[:20]!r} is no number of ours")
    return int(text)


class Backfills:
    """The backfills of one mesh."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def begin(
        self,
        service: str,
        pattern: str,
        since_ms: int,
        before_ms: int | None,
        rate: float | None,
        by: str,
        backfill_id: str = "",
        *,
        again: Sequence[str] = (),
        task: str = "*",
    ) -> Backfill:
        """Begin one. Raises UnknownService, and BackfillRunning where the service has another one."""
        keys, backfill_id = self._keys, backfill_id or names.new_id()
        call = CreateBackfillScript(
            row=keys.backfill(backfill_id),
            index=keys.backfills(),
            running=keys.backfills_running(),
            manifests=keys.manifests(),
            id=backfill_id,
            service=service,
            pattern=pattern,
            since=max(1, since_ms),
            before="" if before_ms is None else before_ms,
            rate="" if rate is None else rate,
            again=",".join(again),
            task=task,
            by=by,
            changed=keys.manifests_changed(),
            listed=LISTED,
        ).call(lambda answer: [one.decode("utf-8", "replace") for one in answer])
        verdict, *rest = await lua.run(self._client, call)
        if verdict == "unknown":
            raise UnknownService(f"there is no service {service!r}; its worker has to have registered")
        if verdict == "running":
            raise BackfillRunning(service, rest[0])
        found = await self.get(backfill_id)
        assert found is not None
        return found

    async def get(self, backfill_id: str) -> Backfill | None:
        """One backfill; None when it is not known (any more)."""
        return (await self._read([backfill_id]))[0]

    async def newest(self) -> list[Backfill]:
        """All that are known, the newest first."""
        ids = [
            id.decode("utf-8", "replace")
            for id in await self._client.zrevrange(self._keys.backfills(), 0, -1)
        ]
        return [one for one in await self._read(ids) if one is not None]

    async def running(self) -> dict[str, str]:
        """The ids of those that run, by service."""
        found = await self._client.hgetall(self._keys.backfills_running())
        return {
            service.decode("utf-8", "replace"): id.decode("utf-8", "replace") for service, id in found.items()
        }

    async def stop(self, backfill_id: str, service: str, reason: str) -> bool:
        """Stop one; answers whether it ran. What it handed over stays."""
        return await lua.run(self._client, self.stop_call(backfill_id, service, reason))

    def stop_call(self, backfill_id: str, service: str, reason: str) -> lua.Call[bool]:
        """`end_backfill.lua`."""
        return EndBackfillScript(
            row=self._keys.backfill(backfill_id),
            running=self._keys.backfills_running(),
            id=backfill_id,
            service=service,
            state=BackfillState.STOPPED,
            reason=reason[:LONGEST],
            lifetime=ms(KEPT),
        ).call(bool)

    async def take(self, backfill_id: str, service: str, dispatcher: str, turn: timedelta) -> Backfill | None:
        """Become the one that works on it for a while; None where another dispatcher does, or it has ended."""

        def parse(answer: list[Any]) -> dict[bytes, bytes]:
            return dict(zip(answer[::2], answer[1::2], strict=True))

        call = TakeBackfillScript(
            row=self._keys.backfill(backfill_id),
            running=self._keys.backfills_running(),
            id=backfill_id,
            service=service,
            dispatcher=dispatcher,
            lifetime=ms(turn),
        ).call(parse)
        row = await lua.run(self._client, call)
        found = parse_backfill(backfill_id, row)
        if row and found is None:
            await self.stop(backfill_id, service, "its row cannot be read")
        return found

    async def note(self, backfill_id: str, waits: str) -> None:
        """Say what it waits for."""
        row = self._keys.backfill(backfill_id)
        await lua.run(self._client, NoteBackfillScript(row=row, waits=waits[:LONGEST]).call(int))

    async def _read(self, ids: list[str]) -> list[Backfill | None]:
        pipeline = self._client.pipeline(transaction=False)
        for backfill_id in ids:
            pipeline.hgetall(self._keys.backfill(backfill_id))
        rows = await pipeline.execute(raise_on_error=False) if ids else []
        return [parse_backfill(id, there(row)) for id, row in zip(ids, rows, strict=True)]
