"""A mesh of three shards on servers of their own: processes of every kind are killed, and the servers in turn."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

from streammesh import lua
from streammesh.embedded import EmbeddedServer
from streammesh.errors import MeshUnavailable
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.shards import ShardedPublisher
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.records import Rows

from tests.faults.report import Row
from tests.faults.stage import Stage
from tests.harness.processes import MeshProcess
from tests.harness.sharded_worker import service

NAME = "three shards, whose processes and servers are killed"
SHARDS = 3
SOURCE = "faults"
MODULES = (
    "services.dispatcher",
    "services.dispatcher",
    "tests.harness.sharded_worker",
    "tests.harness.sharded_worker",
)
PATIENCE = 120.0


async def run(stage: Stage) -> Row:
    """Publish to all shards meanwhile; every event has to end once, in one shard."""
    kills, count, seconds = stage.pick(short=(4, 300, 6), quick=(20, 2_000, 20), normal=(100, 20_000, 120))
    folder = stage.folder
    shutil.rmtree(folder, ignore_errors=True)  # what a run before it left
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        servers = [stack.enter_context(EmbeddedServer(folder / "redis" / str(n))) for n in range(SHARDS)]
        urls = " ".join(server.url for server in servers)
        env = {
            "MESH_REDIS_URL": urls,
            "MESH_SHARDS": str(SHARDS),
            "MESH_LEASE": "2s",
            "MESH_LOG_LEVEL": "warning",
        }
        env |= {
            "DISPATCHER_RECLAIM_IDLE": "1s",
            "DISPATCHER_RECLAIM_EVERY": "500ms",
            "DISPATCHER_JANITOR_EVERY": "2s",
        }
        groups = [MeshProcess(f"{n}-{module}", module, env, folder) for n, module in enumerate(MODULES)]
        for group in groups:
            stack.callback(group.kill)
            group.start()
        settings = MeshSettings(_env_file=None, redis_url=urls, shards=SHARDS)
        for number in range(SHARDS):  # its workers may be slower than the first events
            shard = settings.of_shard(number)
            client = open_async(shard, "register")
            await lua.run(client, register_call(Keys(shard.namespace), service.manifest()))
            await client.aclose()
        publisher = ShardedPublisher(settings, SOURCE)
        published = asyncio.Event()
        ids = [f"event-{n}" for n in range(count)]
        try:
            _, killed = await asyncio.gather(
                _publish(publisher, ids, seconds, published),
                _kill(groups, servers, kills, seconds, random.Random(stage.seed), published),
            )
        finally:
            await publisher.aclose()
        began = time.monotonic()
        lost, doubled = await _findings(settings, ids)
        slowest = time.monotonic() - began
    passed = not lost and not doubled
    return Row(NAME, killed, count, len(lost), len(doubled), round(slowest, 3), passed, [], [*lost, *doubled])


async def _publish(
    publisher: ShardedPublisher, ids: list[str], seconds: float, published: asyncio.Event
) -> None:
    each = 10
    for first in range(0, len(ids), each):
        batch = [
            envelope.make("sharded.noop", {"id": id}, source=SOURCE, id=id)
            for id in ids[first : first + each]
        ]
        await _until_stored(publisher, batch)
        await asyncio.sleep(seconds * each / len(ids))
    published.set()


async def _until_stored(publisher: ShardedPublisher, batch: list[Event]) -> None:
    while True:
        with suppress(MeshUnavailable):
            await publisher.publish_events(batch)
            return
        await asyncio.sleep(0.1)


async def _kill(
    groups: list[MeshProcess], servers: list[EmbeddedServer], kills: int, seconds: float, rng: random.Random,
    published: asyncio.Event,
) -> int:  # fmt: skip
    """Kill a child of a group, a whole group, or a server; what was killed is started again."""
    for number in range(kills):
        await asyncio.sleep(seconds / kills)
        chosen = rng.random()
        if chosen < 0.15:
            server = servers[number % SHARDS]
            server.stop(kill=True)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.start)
        elif chosen < 0.35:
            group = rng.choice(groups)
            group.kill()
            group.start()
        else:
            children = _children(rng.choice(groups).pid)
            if children:
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(children), signal.SIGKILL)
    await published.wait()
    return kills


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


async def _findings(settings: MeshSettings, ids: list[str]) -> tuple[list[str], list[str]]:
    """What has not ended once the time is over, and what ended twice, or in two shards."""
    deadline = time.monotonic() + PATIENCE
    known: dict[str, list[int]] = {id: [] for id in ids}
    ends: Counter[str] = Counter()
    for number in range(settings.shards):
        shard = settings.of_shard(number)
        client, keys = open_async(shard, "check"), Keys(shard.namespace)
        rows, waiting = Rows(client, keys), set(ids)
        try:
            while waiting and time.monotonic() < deadline:
                for id in list(waiting):
                    found = await rows.event(id, SOURCE)
                    if found is None:
                        waiting.discard(id)
                    elif found.completed:
                        waiting.discard(id)
                        known[id].append(number)
                if waiting:
                    await asyncio.sleep(0.2)
            for _, fields in await client.xrange(keys.notifications()):
                if fields.get(b"t") == b"task.succeeded":
                    ends[fields[b"e"].decode()] += 1
        finally:
            await client.aclose()
    lost = [f"{id} has not ended" for id, shards in known.items() if not shards]
    doubled = [f"{id} is in shards {shards}" for id, shards in known.items() if len(shards) > 1]
    doubled += [f"{id} succeeded {times} times" for id, times in ends.items() if times > 1]
    return lost, doubled
