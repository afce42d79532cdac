"""One shard of several loses its primary, or moves, under load: it goes on by itself, and the others never notice.

Each shard has a publisher of its own beside the mixed load, which tells what its clients met, and `/readyz` of the API
and of a dispatcher is read all the while: it has to name the shard that is missing, and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import aiohttp
import redis
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.group_link import REPORT_SECONDS
from streammesh.redisio.heartbeat import OVERDUE_SECONDS
from streammesh.shards import shard_of
from streammesh.testing.conditions import wait_until

from tests.faults import recovery
from tests.faults.arena import API_KEY
from tests.faults.checker import check_pushed, last_position
from tests.faults.followers import Follower
from tests.faults.load import Forgotten, Sent
from tests.faults.mix import BY_TYPE
from tests.faults.records import POOL
from tests.faults.report import Row
from tests.faults.sharded_arena import CLUSTER, SENTINEL, SERVERS, ShardedArena
from tests.faults.stage import Stage, play
from tests.faults.witness import Facts

SERVICES = ("fault_async", "fault_sync")
WITHIN = 15.0  # seconds from the new primary until everything works again in its shard
UNNOTICED = 3.0  # seconds that publishing and ending may take in the other shards, on a machine that is busy
RATE = 15  # events a second, beside those of the shards' own publishers
EVERY = 0.2  # seconds between two events of one of those, and between two looks at readiness
SEEN_AFTER = (
    OVERDUE_SECONDS + REPORT_SECONDS + 0.5
)  # seconds until a process has seen it, and told its parent
PAUSE = 12.0  # seconds for a trouble and what follows it
MISSING = re.compile(r"shard (\d+)")


@dataclass(slots=True)
class Trouble:
    """What was done to a shard. Times are seconds since the epoch."""

    shard: int
    began: float
    mended: float  # a primary was there again
    killed: bool = False  # as against handed over


Break = Callable[[ShardedArena, int, int], Awaitable[Trouble]]


@dataclass(slots=True)
class Said:
    """What `/readyz` said at one moment."""

    at: float
    who: str
    missing: set[int]


async def failover(stage: Stage) -> Row:
    """The primary of a shard is killed, its replica promoted; then it is handed back, as for maintenance."""

    async def break_one(arena: ShardedArena, shard: int, number: int) -> Trouble:
        owner = await asyncio.to_thread(arena.owner, shard)
        if number % 2 == 0:
            at = await arena.one_down(owner)
            mended = await _new_primary(arena, shard, owner)
            await asyncio.sleep(PAUSE / 2)
            await arena.one_up(owner)
            return Trouble(shard, at, mended, killed=True)
        at = await _hand_over(arena, shard)
        return Trouble(shard, at, await _new_primary(arena, shard, owner))

    return await _play(stage, CLUSTER, "failover: a shard's primary killed, or handing over", break_one)


async def moved_slot(stage: Stage) -> Row:
    """The slot of a shard moves to another primary, a few keys at a time."""

    async def break_one(arena: ShardedArena, shard: int, number: int) -> Trouble:
        assert arena.cluster is not None
        other = (shard + 1) % len(arena.keys_of)
        to = arena.servers[other if number % 2 == 0 else shard]
        at = time.time()
        await asyncio.to_thread(arena.cluster.move_slot, to, 50, arena.cluster.slots[shard])
        return Trouble(shard, at, time.time())

    return await _play(stage, CLUSTER, "moved slot: a shard's keys move to another primary", break_one)


async def sentinel(stage: Stage) -> Row:
    """Of several primaries one has a replica and Sentinel: it is killed, Sentinel promotes, and it comes back as a replica.

    Once: a second switch would have the witness begin its file anew.
    """

    async def break_one(arena: ShardedArena, shard: int, number: int) -> Trouble:
        owner = await asyncio.to_thread(arena.owner, shard)
        at = await arena.one_down(owner)
        mended = await _new_primary(arena, shard, owner)
        await asyncio.sleep(PAUSE / 2)
        await arena.one_up(owner)
        return Trouble(shard, at, mended, killed=True)

    return await _play(
        stage, SENTINEL, "sentinel: the primary of one of several shards killed", break_one, rounds=1
    )


async def one_away(stage: Stage) -> Row:
    """A server of one shard, which has no replica, is killed and comes back after 5 s."""

    async def break_one(arena: ShardedArena, shard: int, number: int) -> Trouble:
        server = arena.servers[shard]
        at = await arena.one_down(server)
        await asyncio.sleep(5)
        await arena.one_up(server)
        return Trouble(shard, at, time.time(), killed=True)

    return await _play(stage, SERVERS, "one away: a server of one shard killed, back after 5 s", break_one)


async def _new_primary(arena: ShardedArena, shard: int, former: EmbeddedServer) -> float:
    """Wait until another server than `former` serves a shard; answers when."""

    async def promoted() -> bool:
        try:
            owner = await asyncio.to_thread(arena.owner, shard)
            if owner is former:
                return False
            with redis.Redis(port=owner.port, socket_timeout=1) as node:
                role = await asyncio.to_thread(node.execute_command, "ROLE")
        except (redis.RedisError, OSError, LookupError):
            return False
        return bool(role[0] == b"master")

    await wait_until(f"shard {shard} has another primary", promoted, seconds=60, every=0.05)
    return time.time()


async def _hand_over(arena: ShardedArena, shard: int) -> float:
    owner = await asyncio.to_thread(arena.owner, shard)
    [other] = [one for one in (arena.servers[shard], arena.heir(shard)) if one is not owner]

    async def handed() -> bool:
        with contextlib.suppress(redis.RedisError, OSError), redis.Redis(port=other.port) as node:
            if node.info("replication").get("master_link_status") == "up":
                await asyncio.to_thread(node.execute_command, "CLUSTER FAILOVER")
                return True
        return False

    await wait_until(f"the primary of shard {shard} has a replica that follows", handed, seconds=60)
    return time.time()


@dataclass(slots=True)
class ShardPublisher:
    """Publishes one event after the other into one shard, each until it is accepted, and notes how that went."""

    shard: int
    shards: int
    sent: list[Sent] = field(default_factory=list)
    refused: list[tuple[float, str]] = field(default_factory=list)

    async def run(self, url: str, over: asyncio.Event) -> None:
        """Until `over` is set."""
        source, kind = f"shard-publisher-{self.shard}", BY_TYPE["fault.noted"]
        ids = (
            id
            for n in count()
            if shard_of(None, source, id := f"p{self.shard}-{n}", self.shards) == self.shard
        )
        headers = {"authorization": f"Bearer {API_KEY}", "content-type": "application/cloudevents+json"}
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as http:
            while not over.is_set():
                sent = Sent(source, next(ids), kind, time.time())
                self.sent.append(sent)
                event = {
                    "specversion": "1.0",
                    "type": kind.type,
                    "source": source,
                    "id": sent.id,
                    "data": {"n": 1},
                }
                while sent.accepted is None:
                    try:
                        async with http.post(f"{url}/v1/events", json=event, headers=headers) as answer:
                            text = await answer.text()
                        if answer.status == 202:
                            sent.accepted = time.time()
                        else:
                            self.refused.append((time.time(), f"{answer.status} {text[:200]}"))
                    except (aiohttp.ClientError, TimeoutError, OSError) as error:
                        self.refused.append((time.time(), repr(error)))
                    await asyncio.sleep(EVERY)


async def _look(urls: dict[str, str], said: list[Said], over: asyncio.Event) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
        while not over.is_set():
            for who, url in urls.items():
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    at = time.time()
                    async with http.get(f"{url}/readyz") as answer:
                        parts = (await answer.json()).get("parts") or {}
                    ill = [name for name, part in parts.items() if not part["ok"]]
                    said.append(Said(at, who, {int(n) for name in ill for n in MISSING.findall(name)}))
            await asyncio.sleep(EVERY)


async def _play(stage: Stage, over: str, name: str, break_one: Break, rounds: int = 0) -> Row:
    rounds = rounds or stage.pick(quick=2, normal=6)
    length = rounds * PAUSE * 2 + 3
    async with stage.sharded_arena(over) as arena:
        health = {"dispatcher": free_port(), "worker": free_port()}
        await arena.add_groups("dispatcher", 1, MESH_HEALTH_PORT=str(health["dispatcher"]))
        await arena.add("dispatcher")  # and one for each shard, pinned to it
        await arena.add_groups("fault_async", 1, MESH_HEALTH_PORT=str(health["worker"]))
        await arena.add("fault_async")
        await arena.add_groups("fault_sync", 1, **{POOL: "threads"}, MESH_CONCURRENCY="2")
        await arena.add_api(2)
        await arena.ready()
        follower = Follower(arena.url, API_KEY, "fault.*")
        follower.start()
        shards = range(len(arena.keys_of))
        publishers = [ShardPublisher(shard, len(shards)) for shard in shards]
        urls = {who: f"http://127.0.0.1:{port}" for who, port in health.items()}
        urls["api"] = f"http://127.0.0.1:{arena.apis[0]}"
        troubles: list[Trouble] = []
        said: list[Said] = []
        killed: list[Forgotten] = []

        async def trouble(published: asyncio.Event) -> None:
            done = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                for publisher in publishers:
                    group.create_task(publisher.run(arena.url, done))
                group.create_task(_look(urls, said, done))
                await asyncio.sleep(3)
                for number in range(rounds):
                    began = time.monotonic()
                    shard = number // 2 % len(shards)
                    troubles.append(await break_one(arena, shard, number))
                    if troubles[-1].killed:
                        killed.append(Forgotten(troubles[-1].began, troubles[-1].began))
                    await asyncio.sleep(max(PAUSE / 2, PAUSE * 1.5 - (time.monotonic() - began)))
                done.set()

        played = await play(
            arena, round(RATE * length), length, trouble, patience=90, forgetful=killed,
            also=lambda: [sent for publisher in publishers for sent in publisher.sent],
        )  # fmt: skip
        seen = await follower.stop_after(last_position(played.facts), 20)
        if not played.findings.forgotten:
            check_pushed(played.findings, played.facts, [seen])
        ended = [part.name for part in arena.parts if not part.running]
        if ended:
            played.findings.lost.append(f"these processes ended: {ended}")
        slowest = max(_return(one, played.facts, publishers[one.shard]) for one in troubles)
        noticed = _noticed(troubles, played.facts, publishers)
        played.findings.lost += noticed + _readiness(troubles, said)
        played.remarks.append(
            f"slowest in the shard itself {slowest:.2f} s after its new primary; in the others publishing took"
            f" {max(_slow(troubles, publishers, played.facts)):.2f} s at most; /readyz read {len(said)} times"
        )
        return played.row(name, len(troubles), slowest, within=WITHIN)


def _return(one: Trouble, facts: Facts, publisher: ShardPublisher) -> float:
    """From the new primary until an event was accepted there, and a task queued, begun and ended for each service."""
    accepted = [sent.accepted for sent in publisher.sent if sent.accepted]
    return recovery.shard_return(facts, one.shard, one.mended, accepted, SERVICES)


def _span(one: Trouble) -> tuple[float, float]:
    """When others could notice it."""
    return one.began - 0.5, one.mended + PAUSE / 2


def _others(troubles: list[Trouble], shard: int, at: float) -> bool:
    """Whether another shard was in trouble at a moment, and this one was not."""
    hit = {one.shard for one in troubles if _span(one)[0] <= at <= _span(one)[1]}
    return bool(hit) and shard not in hit


def _slow(troubles: list[Trouble], publishers: list[ShardPublisher], facts: Facts) -> list[float]:
    """Seconds that publishing, and from there the end of the event, took in shards while others were in trouble."""
    ends = {note.event: note.at / 1000 for note in facts.told if note.type == "event.completed"}
    return [0.0] + [
        max(sent.accepted or 0, ends.get(sent.id, 0)) - sent.begun
        for publisher in publishers
        for sent in publisher.sent
        if _others(troubles, publisher.shard, sent.begun)
    ]


def _noticed(troubles: list[Trouble], facts: Facts, publishers: list[ShardPublisher]) -> list[str]:
    """What the other shards' clients met."""
    found = [
        f"a publisher of shard {publisher.shard} was refused while another was in trouble: {text}"
        for publisher in publishers
        for at, text in publisher.refused
        if _others(troubles, publisher.shard, at)
    ]
    slow = max(_slow(troubles, publishers, facts))
    if slow > UNNOTICED:
        found.append(f"in the other shards an event took {slow:.2f} s while one was in trouble")
    return found


def _readiness(troubles: list[Trouble], said: list[Said]) -> list[str]:
    """Where `/readyz` named another shard than the one in trouble, or did not name that one though it was long away."""
    found = []
    for one in troubles:
        first, last = _span(one)
        here = [it for it in said if first <= it.at <= last]
        wrong = {it.who for it in here if it.missing - {one.shard}}
        found += [f"/readyz of {who} named another shard than {one.shard}" for who in sorted(wrong)]
        if one.killed and one.mended - one.began > SEEN_AFTER:
            silent = {it.who for it in here} - {it.who for it in here if one.shard in it.missing}
            found += [
                f"/readyz of {who} did not say that shard {one.shard} was missing" for who in sorted(silent)
            ]
    return found
