"""Whether the mesh is well: what was found, and what is wrong with it. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

MEMORY_MARK = 0.9  # of maxmemory; publishing is refused when it is full
LAG_MARK = 1_000  # events that a service was not given while its queue has room: no lane is at work


@dataclass(frozen=True, slots=True)
class RedisState:
    """What the server says about itself. Sizes in bytes; `memory_limit` 0 is none."""

    version: str
    ping_ms: float
    memory: int
    memory_limit: int
    persistent: bool  # an append-only file is written
    last_write_ok: bool  # of the append-only file
    clients: int


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One subscribing service: its live workers, and what waits for it where."""

    service: str
    workers: int
    queued: int  # tasks in its queue, running ones included
    lag: int  # events of its subscriptions that were not handed over yet
    dead_letters: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The mesh at one moment."""

    redis: RedisState
    dispatchers: int
    beats: int
    services: list[ServiceState] = field(default_factory=list)


def problems(found: Snapshot, max_queued: int) -> list[str]:
    """What a person should look at, in sentences; empty when all is well."""
    redis = found.redis
    said = []
    if redis.memory_limit and redis.memory > MEMORY_MARK * redis.memory_limit:
        share = redis.memory / redis.memory_limit
        said.append(f"Redis uses {share:.0%} of its memory limit; when it is full, publishing is refused")
    if not redis.persistent:
        said.append("Redis writes no append-only file: a restart loses everything")
    elif not redis.last_write_ok:
        said.append("Redis could not write its append-only file: look at the disk")
    if not found.dispatchers:
        said.append("no dispatcher is alive: events wait in their streams")
    if not found.beats:
        said.append("no Beat is alive: nothing is scheduled")
    for state in found.services:
        if not state.workers:
            said.append(f"{state.service}: no worker is alive; {state.queued} tasks wait")
        if state.queued >= max_queued:
            said.append(
                f"{state.service}: its queue is full ({state.queued} tasks); more waits in the streams"
            )
        elif state.lag >= LAG_MARK:
            said.append(f"{state.service}: {state.lag} events were not handed over yet")
    return said


def report(found: Snapshot, max_queued: int) -> dict[str, Any]:
    """The result of a health check: `status` is `ok` or `degraded`, `problems` says why."""
    said = problems(found, max_queued)
    return {"status": "degraded" if said else "ok", "problems": said, **asdict(found)}
