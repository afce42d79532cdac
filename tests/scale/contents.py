"""Fills a server with very much: samples made by the mesh's own moves, copied by the server itself under other names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import redis.asyncio
from streammesh import lua
from streammesh.events.publisher import Publisher
from streammesh.keys import Keys
from streammesh.schedules import Change, parse_entry
from streammesh.schedules.store import store_call
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

from services.api.tests.mesh import Mesh

AT_ONCE = 2_000  # copies of one script; it holds the server for so long, while nobody else is there
SAMPLE = "svc0"

# Copies of an event that has ended: its entry in the stream, and its row.
EVENTS = """
local row = redis.call('HGETALL', KEYS[2])
for n = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1 do
  local id = 'kept' .. n
  local json = string.gsub(ARGV[3], ARGV[4], id)
  local entry = redis.call('XADD', KEYS[1], '*', 'e', json)
  local copy = {}
  for i = 1, #row, 2 do
    local value = row[i + 1]
    if string.sub(row[i], 1, 3) == 'at:' then value = entry .. string.sub(value, #ARGV[5] + 1) end
    if string.sub(row[i], 1, 5) ~= 'task:' then copy[#copy + 1] = row[i]; copy[#copy + 1] = value end
  end
  redis.call('HSET', ARGV[6] .. id, unpack(copy))
end
"""

# Copies of a task that is open: its row, its place among the open, its queue entry.
TASKS = """
local row, entry = redis.call('HGETALL', KEYS[1]), redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1][2]
for n = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1 do
  local service = 'svc' .. (n % tonumber(ARGV[3]))
  local id = string.format('%08x-0000-5000-8000-%012x', n, n)
  local fields = {}
  for i = 1, #entry do fields[i] = string.gsub(entry[i], ARGV[4], id) end
  local place = redis.call('XADD', ARGV[5] .. 'queue:' .. service, '*', unpack(fields))
  local copy = {}
  for i = 1, #row, 2 do
    copy[i], copy[i + 1] = row[i], string.gsub(row[i + 1], 'svc0', service)
    if row[i] == 'entry' then copy[i + 1] = place end
  end
  redis.call('HSET', ARGV[5] .. 'task:' .. id, unpack(copy))
  redis.call('ZADD', ARGV[5] .. 'open:' .. service, string.match(place, '^%d+'), id)
end
"""

# Copies of a dead letter, all of one service.
LETTERS = """
local letter, parts = redis.call('HGETALL', KEYS[1])[2], redis.call('HGETALL', KEYS[2])
local now = redis.call('TIME')
for n = tonumber(ARGV[1]), tonumber(ARGV[1]) + tonumber(ARGV[2]) - 1 do
  local id = string.format('%08x-0000-5000-9000-%012x', n, n)
  redis.call('HSET', ARGV[4] .. 'dead:' .. ARGV[3], id, (string.gsub(letter, 'svc0', ARGV[3])))
  redis.call('ZADD', ARGV[4] .. 'dead-index:' .. ARGV[3], tonumber(now[1]) * 1000 - (n % 86400) * 900, id)
  redis.call('SADD', ARGV[4] .. 'dead-services', ARGV[3])
  for i = 1, #parts, 2 do
    local name = string.sub(parts[i], 1, 2) .. id
    redis.call('HSET', ARGV[4] .. 'dead-entries:' .. ARGV[3], name, (string.gsub(parts[i + 1], 'svc0', ARGV[3])))
  end
end
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is kept."""

    events: int = 1_000_000
    letters: int = 200_000
    tasks: int = 100_000
    schedules: int = 10_000
    services: int = 500

    def scaled(self, share: float) -> Sizes:
        """Less of everything, for who looks whether it works at all."""
        names = ("events", "letters", "tasks", "schedules", "services")
        return Sizes(**{name: max(10, round(getattr(self, name) * share)) for name in names})


async def fill(
    client: redis.asyncio.Redis,
    keys: Keys,
    settings: MeshSettings,
    sizes: Sizes,
    say: Callable[[str], None],
) -> None:
    """Put all of it into an empty server."""
    mesh, publisher = Mesh(client, keys, settings), Publisher(client, keys, settings, "shop")
    await mesh.subscribe(SAMPLE, "order.s0")
    ids = {}
    for kind in ("sampledone", "samplefailed", "sampleopen"):
        await publisher.publish(
            "order.s0", {"customer": 42, "text": "x" * 120}, id=kind, subject="customer/42"
        )
        [ids[kind]] = await mesh.dispatch("order", SAMPLE)
        if kind != "sampleopen":
            await mesh.start(ids[kind])
    await mesh.succeed(ids["sampledone"], {"sent": True})
    await mesh.fail(ids["samplefailed"], "refused by the mail server")
    await _copy_events(client, keys, sizes.events)
    say(f"{sizes.events:,} events")
    await _register(client, keys, sizes.services)
    say(f"{sizes.services:,} services")
    task = ids["sampleopen"].ref.task_id
    row, queue = keys.task(task), keys.queue(SAMPLE)
    pattern = task.replace("-", "%-")
    for first in range(1, sizes.tasks + 1, AT_ONCE):
        count = min(AT_ONCE, sizes.tasks + 1 - first)
        await client.eval(TASKS, 2, row, queue, first, count, max(1, sizes.services), pattern, keys.prefix)
    say(f"{sizes.tasks:,} open tasks")
    await _copy_letters(client, keys, sizes)
    say(f"{sizes.letters:,} dead letters")
    for first in range(0, sizes.schedules, 500):
        changes = []
        for n in range(first, min(first + 500, sizes.schedules)):
            about = {"name": f"s{n}", "every": "24h", "event": {"type": "clock.ticked", "data": {"n": n}}}
            entry = parse_entry(about)
            due = settings.retention + timedelta(seconds=n)
            changes.append(Change(entry.name, b"", entry.to_json(), int(due.total_seconds() * 1000) + _now()))
        await lua.run(client, store_call(keys, changes))
    say(f"{sizes.schedules:,} schedules")


def _now() -> int:
    import time

    return int(time.time() * 1000)


async def _copy_events(client: redis.asyncio.Redis, keys: Keys, number: int) -> None:
    stream = keys.events("order")
    [(entry, fields)] = await client.xrange(stream, count=1)
    given = (fields[b"e"], "sampledone", entry.decode(), keys.event(""))
    for first in range(0, number, AT_ONCE):
        count = min(AT_ONCE, number - first)
        await client.eval(EVENTS, 2, stream, keys.event("sampledone"), first, count, *given)
    # All of them were handed over: the one group stands at the end, and has read as many as there are.
    last = (await client.xinfo_stream(stream))["last-generated-id"]
    await client.execute_command("XGROUP", "SETID", stream, SAMPLE, last, "ENTRIESREAD", number + 3)


async def _register(client: redis.asyncio.Redis, keys: Keys, number: int) -> None:
    for first in range(1, number, 100):
        calls = []
        for n in range(first, min(first + 100, number)):
            name = f"svc{n}"
            wants = Subscription(service=name, task=f"{name}.handle", type=f"order.s{n}")
            calls.append(register_call(keys, Manifest(name, subscriptions=(wants,))))
        await lua.run_many(client, calls)


async def _copy_letters(client: redis.asyncio.Redis, keys: Keys, sizes: Sizes) -> None:
    """Half of them of one service, as many as one may keep; the others of a hundred."""
    dead, entries = keys.dead(SAMPLE), keys.dead_entries(SAMPLE)
    others = min(100, sizes.services - 2)
    shares = {"svc1": sizes.letters // 2}
    shares |= {f"svc{n + 2}": sizes.letters // 2 // others for n in range(others)}
    at = 0
    for service, number in shares.items():
        for first in range(at, at + number, AT_ONCE):
            count = min(AT_ONCE, at + number - first)
            await client.eval(LETTERS, 2, dead, entries, first, count, service, keys.prefix)
        at += number
