"""What lies in a mesh that is to be moved, and why it cannot be moved now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import redis

from streammesh.keys import Keys
from streammesh.redisio.heartbeat import FRESH_MS
from streammesh.settings import MeshSettings
from streammesh.shards import each_shard

PAGE = 500  # keys of one look
Connect = Callable[[MeshSettings], redis.Redis]
# Tasks in line for a key would wait in the shard that they lie in, and those that come later in the shard of their key. Runs
# that wait for an event, and tasks that one may cancel, are told of events of all shards.
WAITING = {
    "flow-line": "tasks wait in line for a place",
    "outbox": "events wait for another shard",
}


@dataclass(slots=True)
class Survey:
    """What was found; `refusals` are sentences."""

    keys: list[int] = field(default_factory=list)  # of each shard
    memory: list[int] = field(default_factory=list)  # bytes of each shard's server
    refusals: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)  # what would not be found by what it waits for

    def why_not(self, *, anyway: bool) -> list[str]:
        """Why the mesh cannot be moved; `anyway`: though something waits."""
        return self.refusals if anyway else [*self.refusals, *self.waiting]


def survey(source: MeshSettings, target: MeshSettings, connect: Connect) -> Survey:
    """Look at both. Raises redis-py's errors where a shard is away."""
    found = Survey()
    if target.shards < source.shards:
        found.refusals.append(
            f"{target.shards} shards are fewer than {source.shards}: what lies in two cannot be put into one; let a new mesh"
            " begin beside this one, and this one drain"
        )
    if target.shards < 2:
        found.refusals.append("a mesh of one shard is moved by copying its Redis")
    if target.namespace == source.namespace:
        found.refusals.append("the mesh that is filled needs another namespace: --to-namespace")
    for number, shard in enumerate(each_shard(source)):
        with connect(shard) as client:
            keys, words = Keys(shard.namespace), dict.fromkeys(WAITING, 0)
            count = 0
            for page in pages(client, keys.prefix):
                count += len(page)
                for name in page:
                    word = word_of(name, keys)
                    if word in words:
                        words[word] += _length(client, name)
            found.keys.append(count)
            found.memory.append(int(client.info("memory")["used_memory"]))
            alive = living(client, keys)
        where = f" in shard {number}" if source.shards > 1 else ""
        if alive:
            found.refusals.append(
                f"processes are at work{where}: {', '.join(alive[:5])}; stop all of them first"
            )
        found.waiting += [f"{many:,} {WAITING[word]}{where}" for word, many in words.items() if many]
    return found


def living(client: redis.Redis, keys: Keys) -> list[str]:
    """The processes that showed life in the last seconds."""
    since = round(time.time() * 1000) - FRESH_MS
    names = []
    for page in pages(client, keys.alive("")):
        for name in page:
            names += [one.decode("utf-8", "replace") for one in client.zrangebyscore(name, since, "+inf")]
    return sorted(names)


def pages(client: redis.Redis, prefix: str) -> Iterator[Sequence[bytes]]:
    """All keys that begin so, some at a time; one may come twice."""
    cursor = 0
    while True:
        cursor, page = client.scan(cursor, match=f"{prefix}*", count=PAGE)
        if page:
            yield page
        if not cursor:
            return


def word_of(name: bytes, keys: Keys) -> str:
    """What kind of key it is: the first word after the prefix."""
    return name.decode("utf-8", "replace").removeprefix(keys.prefix).partition(":")[0]


def _length(client: redis.Redis, name: bytes) -> int:
    kind = client.type(name)
    return int(client.xlen(name) if kind == b"stream" else client.zcard(name) if kind == b"zset" else 0)
