"""A mesh of any number of shards at one moment: each shard's snapshot, as one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from streammesh.keys import Keys
from streammesh.lines.state import FlowStanding
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.shards import each_shard
from streammesh.status.backlog import Backlog
from streammesh.status.findings import Finding, findings, report
from streammesh.status.outbox import added
from streammesh.status.snapshot import ServiceState, Snapshot, read_snapshot
from streammesh.status.streams import StreamState

ONLY_IN_FIRST = frozenset(("no-beat", "no-keys"))  # Beat and API keys are the mesh's, and in its first shard


class WholeMesh:
    """The connections to all shards; close it. With one shard it is that one's."""

    def __init__(self, settings: MeshSettings, name: str) -> None:
        whole = settings.whole
        self.shards = each_shard(whole)
        self.clients = [open_async(shard, name) for shard in self.shards]

    async def look(self) -> list[Snapshot]:
        """Return each shard's snapshot. Raises redis-py's errors where one is away."""
        return list(
            await asyncio.gather(
                *(
                    read_snapshot(client, Keys(shard.namespace), shard)
                    for client, shard in zip(self.clients, self.shards, strict=True)
                )
            )
        )

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self.clients:
            await client.aclose()


def findings_of(number: int, said: Sequence[Finding]) -> list[Finding]:
    """Return what is said of one of several shards, with the shard's number."""
    return [
        replace(one, about=f"shard {number} {one.about}", text=f"shard {number}: {one.text}")
        for one in said
        if number == 0 or one.code not in ONLY_IN_FIRST
    ]


def findings_of_all(each: Sequence[Snapshot], settings: MeshSettings) -> list[Finding]:
    """Return all that a person should look at, errors first; of several shards each says of which it is."""
    if len(each) == 1:
        return findings(each[0], settings)
    said = [
        one for number, found in enumerate(each) for one in findings_of(number, findings(found, settings))
    ]
    return sorted(said, key=lambda one: one.severity != "error")


def report_of_all(each: Sequence[Snapshot], settings: MeshSettings) -> dict[str, Any]:
    """Return the whole status as a document, as `report` does of one shard."""
    return report(joined(each), settings, said=findings_of_all(each, settings))


def joined(each: Sequence[Snapshot]) -> Snapshot:
    """Return the snapshots of all shards as one: what is counted is added up, roles are as few as in any shard."""
    first = each[0]
    if len(each) == 1:
        return first
    services: dict[str, ServiceState] = {}
    streams: dict[str, StreamState] = {}
    flows: dict[str, FlowStanding] = {}
    for found in each:
        for state in found.services:
            known = services.get(state.service)
            services[state.service] = state if known is None else _service(known, state)
        for one in found.streams:
            stream = streams.get(one.domain)
            streams[one.domain] = one if stream is None else _stream(stream, one)
        for task, standing in found.flows.items():
            flow = flows.get(task)
            flows[task] = standing if flow is None else _flow(flow, standing)
    servers = [found.redis for found in each]
    return replace(
        first,
        redis=replace(
            first.redis,
            ping_ms=max(one.ping_ms for one in servers),
            memory=sum(one.memory for one in servers),
            memory_limit=sum(one.memory_limit for one in servers),
            persistent=all(one.persistent for one in servers),
            last_write_ok=all(one.last_write_ok for one in servers),
            clients=sum(one.clients for one in servers),
        ),
        dispatchers=min(found.dispatchers for found in each),
        archivers=min(found.archivers for found in each),
        webhook_workers=min(found.webhook_workers for found in each),
        services=[services[name] for name in sorted(services)],
        paused=tuple({pause.task: pause for found in each for pause in found.paused}.values()),
        server=tuple(one for found in each for one in found.server),
        streams=tuple(streams[domain] for domain in sorted(streams)),
        totals=_added([found.totals for found in each]),
        unarchived=reduce(Backlog.__add__, (found.unarchived for found in each)),
        disabled_webhooks={name: why for found in each for name, why in found.disabled_webhooks.items()},
        flows=flows,
        outboxes=added(one for found in each for one in found.outboxes),
    )


def _service(one: ServiceState, other: ServiceState) -> ServiceState:
    return replace(
        one,
        **{
            name: getattr(one, name) + getattr(other, name)
            for name in ("workers", "queued", "lag", "dead_letters", "waiting", "held", "processes")
        },
        lag_exact=one.lag_exact and other.lag_exact,
        oldest_ms=_least(one.oldest_ms, other.oldest_ms),
        stalled_ms=_least(one.stalled_ms, other.stalled_ms),
        last_seen_ms=max((ms for ms in (one.last_seen_ms, other.last_seen_ms) if ms), default=None),
        registered=one.registered or other.registered,
        subscriptions=one.subscriptions or other.subscriptions,
    )


def _stream(one: StreamState, other: StreamState) -> StreamState:
    last = max((ms for ms in (one.last_ms, other.last_ms) if ms), default=None)
    return StreamState(one.domain, one.kept + other.kept, one.published + other.published, last)


def _flow(one: FlowStanding, other: FlowStanding) -> FlowStanding:
    counts = {
        name: getattr(one, name) + getattr(other, name) for name in ("waiting", "running", "skipped", "slow")
    }
    return replace(one, **counts, set=one.set or other.set)


def _added(tables: Sequence[Mapping[str, int]]) -> Mapping[str, int]:
    return dict(sum((Counter(table) for table in tables), Counter())) | {
        name: 0 for name in tables[0] if not any(table.get(name) for table in tables)
    }


def _least(one: int | None, other: int | None) -> int | None:
    return min((ms for ms in (one, other) if ms), default=None)
