"""A mesh of real processes that may be killed at any time, on a server of its own, with all that it did kept."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.keys import Keys
from streammesh.redisio.heartbeat import FRESH_MS
from streammesh.settings import MeshSettings
from streammesh.shards import ShardedPublisher
from streammesh.tasks.records import EventRow, parse_event
from streammesh.testing.conditions import wait_until

from tests.faults.load import Forgotten, History
from tests.faults.mix import DELIVERIES
from tests.faults.processes import Forks, Killed, Part
from tests.faults.proxy import Proxy
from tests.faults.records import FILE, Run, read_runs
from tests.faults.witness import Facts, read_facts, stored_in

NAMESPACE = "faults"
API_KEY = "faults-admin-key-of-thirty-letters"
LEASE = 2.0  # seconds; production's is 15
ROLES = {
    "dispatcher": "services.dispatcher",
    "fault_async": "tests.faults.workers.async_worker",
    "fault_sync": "tests.faults.workers.sync_worker",
}
READY_SECONDS = 60


class Died(Exception):
    """A process of the mesh ended by itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one shard lies; a mesh without shards lies in one place."""

    keys: Keys
    client: redis.asyncio.Redis


class Arena:
    """One run's mesh; an async context manager. Everything that it started has ended when it is left."""

    def __init__(
        self,
        forks: Forks,
        folder: Path,
        seed: int,
        *,
        fsync: str = "everysec",
        prefix: tuple[str, ...] = (),
        **env: str,
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.forks, self.rng = folder, forks, random.Random(seed)
        self.keys, self.record = Keys(NAMESPACE), folder / "runs.txt"
        self.unsettled: list[str] = []  # what was left when `settle` gave up
        self.came_back: set[str] = set()  # events that the server had forgotten, and remembered too late
        options = ("--auto-aof-rewrite-percentage", "0")  # the file is the witness: see append_log.py
        self.server = EmbeddedServer(folder / "redis", fsync=fsync, options=options, prefix=prefix)
        self.env = {
            "MESH_REDIS_URL": self.server.url,
            "MESH_NAMESPACE": NAMESPACE,
            "MESH_LEASE": f"{LEASE}s",
            "MESH_LOG_FORMAT": "json",
            "MESH_CONCURRENCY": "0",
            "MESH_BREAKER_FAILURES": "0",  # one kind of event is there to be rejected, every time
            "API_ADMIN_KEY": API_KEY,
            FILE: str(self.record),
            **env,
        }
        self.settings = MeshSettings(_env_file=None, redis_url=self.server.url, namespace=NAMESPACE)
        self.parts: list[Part] = []
        self.children_killed: list[Killed] = []  # of pools
        self.apis: list[int] = []
        self.door = Proxy([], seed, in_turn=True)
        self._guarded = 0
        self.client = redis.asyncio.Redis.from_url(
            self.server.url, max_connections=10_000, socket_timeout=30, retry=Retry(ConstantBackoff(0.1), 100)
        )

    @property
    def places(self) -> Sequence[Place]:
        """Where its shards lie."""
        return [Place(self.keys, self.client)]

    @contextlib.asynccontextmanager
    async def publisher(self, source: str) -> AsyncIterator[ShardedPublisher]:
        """Who publishes past the API, into whichever shard."""
        made = ShardedPublisher(self.settings, source)
        try:
            yield made
        finally:
            await made.aclose()

    async def __aenter__(self) -> Self:
        await self.server_up()
        await self.door.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in self.parts:
            if part.running:
                await part.kill()
        await self.door.__aexit__(kind, error, trace)
        await self.client.aclose()
        await self.server_down(kill=True)

    # --- the server ---------------------------------------------------------------------------

    async def server_up(self) -> float:
        """Start it; answers when it was back, in seconds since the epoch."""
        await asyncio.to_thread(self.server.start)
        back = time.time()
        self._guarded = self.server.pid
        await self.forks.guard(self._guarded)
        return back

    async def server_down(self, *, kill: bool) -> None:
        """End it."""
        await asyncio.to_thread(self.server.stop, kill=kill)
        await self.forks.release(self._guarded)

    # --- the parts ----------------------------------------------------------------------------

    async def add(
        self, role: str, count: int = 1, *, argv: Sequence[str] = (), module: str | None = None, **env: str
    ) -> list[Part]:
        """Start processes of a role (a name in `ROLES`, or any with its `module`); does not wait for them."""
        added = []
        for _ in range(count):
            number = sum(part.role == role for part in self.parts)
            part = Part(
                self.forks,
                role,
                f"{role}-{number}",
                module or ROLES[role],
                {**self.env, **env},
                self.folder,
                argv,
            )
            self.parts.append(await part.start())
            added.append(part)
        return added

    async def add_api(
        self, count: int, *, module: str = "services.api", argv: Sequence[str] = (), **env: str
    ) -> list[Part]:
        """Start API replicas behind the door."""
        added = []
        for _ in range(count):
            port = free_port()
            self.apis.append(port)
            self.door.targets.append(port)
            added += await self.add("api", 1, argv=argv, module=module, **{"API_PORT": str(port), **env})
        return added

    @property
    def url(self) -> str:
        """Where clients go; behind it is whichever replica answers."""
        return f"http://127.0.0.1:{self.door.port}"

    @property
    def kills(self) -> list[Killed]:
        """All kills so far, in order."""
        of_parts = (kill for part in self.parts for kill in part.kills)
        return sorted((*of_parts, *self.children_killed), key=lambda kill: kill.at)

    async def ready(self) -> None:
        """Wait until every process shows life, and every replica listens."""
        places = self.places
        wanted = [
            Counter(p.role for p in self.parts if p.serves(n) and p.role != "api") for n in range(len(places))
        ]

        async def all_live() -> bool:
            self.look_for_dead()
            for place, roles in zip(places, wanted, strict=True):
                since = str((await place.client.time())[0] * 1000 - FRESH_MS)
                for role, count in roles.items():
                    if await place.client.zcount(place.keys.alive(role), since, "+inf") < count:
                        return False
            return True

        await wait_until(f"signs of life of {wanted}", all_live, seconds=READY_SECONDS * len(places))

        async def all_listen() -> bool:
            self.look_for_dead()
            return all([await listens(port) for port in self.apis])

        await wait_until("every API replica listens", all_listen, seconds=READY_SECONDS)

    def look_for_dead(self) -> None:
        """Raises Died when a process has ended that nobody killed, with its last words."""
        for part in self.parts:
            if not part.running:
                words = part.log.read_text("utf-8", "replace").splitlines()[-5:] if part.log.exists() else []
                raise Died(f"{part.name} has ended: " + " | ".join(words))

    # --- the end ------------------------------------------------------------------------------

    async def settle(self, history: History, seconds: float, forgetful: Sequence[Forgotten] = ()) -> bool:
        """Wait until every accepted event and all that followed has ended; answers whether that came about.

        An event that was accepted within one of the `forgetful` times may be gone altogether.
        """
        near = {s.id for s in history.accepted if any(one.has(s.accepted or 0) for one in forgetful)}
        open_ids = {sent.id for sent in history.accepted}
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(RedisError, OSError):
                if open_ids:
                    open_ids = await self._still_open(sorted(open_ids), near)
                elif await self.is_quiet():
                    return True
            await asyncio.sleep(0.2)
        self.unsettled = [f"event {one} has not ended" for one in sorted(open_ids)]
        with contextlib.suppress(RedisError, OSError):
            self.unsettled += await self.still_to_do()
        return False

    async def _still_open(self, ids: list[str], may_be_gone: set[str]) -> set[str]:
        rows: dict[str, dict[bytes, bytes]] = {event: {} for event in ids}
        routed: dict[str, str] = {}
        for place in self.places:
            pipeline = place.client.pipeline(transaction=False)
            for event in ids:
                pipeline.hgetall(place.keys.event(event))
            answers = zip(ids, await pipeline.execute(), strict=True)
            rows.update({event: row for event, row in answers if row})
            for domain in await place.client.smembers(place.keys.domains()):
                at = await place.client.hget(place.keys.routed(domain.decode()), ":at")
                routed[domain.decode()] = (at or b"0-0").decode()
        still = set()
        for event, row in rows.items():
            if not row and event in may_be_gone:
                continue
            found = parse_event(event, row)
            if event in may_be_gone and found and all(_came_back(one, routed) for one in found):
                self.came_back.add(event)
            elif not (found and all(one.completed for one in found)):
                still.add(event)
        return still

    async def still_to_do(self) -> list[str]:
        """What is queued, held, waiting for later, or not yet handed over; nothing when all is quiet."""
        shards = range(len(self.places))
        found = []
        for place in self.places:
            for shard in shards:
                if waiting := await place.client.xlen(place.keys.outbox(shard)):
                    found.append(f"{place.keys.outbox(shard)}: {waiting} entries")
            found += await _still_to_do(place.keys, place.client)
        return found

    async def is_quiet(self) -> bool:
        """Nothing is left to do."""
        return not await self.still_to_do()

    def facts(self) -> Facts:
        """What took effect, from the server's append-only file."""
        return read_facts(self.server.folder, self.keys, DELIVERIES)

    def stored(self, domain: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The events of a domain that were ever stored, each with its time in ms."""
        return stored_in(self.server.folder, self.keys, domain)

    def runs(self) -> Mapping[str, list[Run]]:
        """What handlers did."""
        return read_runs(self.record)


def _came_back(row: EventRow, routed: Mapping[str, str]) -> bool:
    """Whether nobody was asked who wants an event though the router is beyond its place.

    Redis 7.0 leaves the beginning of a torn transaction in its file and forgets it; as it starts again, it is there
    once more, among what was there before all that has been done meanwhile.
    """
    return row.wanted is None and row.entry != "held" and _place(row.entry) < _place(routed[row.domain])


def _place(position: str) -> tuple[int, ...]:
    return tuple(map(int, position.split("-")))


async def _still_to_do(keys: Keys, client: redis.asyncio.Redis) -> list[str]:
    found = []
    for service in ("fault_async", "fault_sync"):
        if queued := await client.xlen(keys.queue(service)):
            found.append(f"queue of {service}: {queued} entries")
    if due := await client.zcard(keys.due()):
        found.append(f"due: {due}")
    for domain in await client.smembers(keys.domains()):
        for group in await client.xinfo_groups(keys.events(domain.decode())):
            unread = bool(group["lag"]) and await client.xrange(
                keys.events(domain.decode()), f"({group['last-delivered-id'].decode()}", "+", count=1
            )
            if group["pending"] or unread:
                found.append(
                    f"events of {domain.decode()}: {group['pending']} pending, {group['lag']} unread"
                )
    return found


async def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
