"""Signs of life: which processes of a role or service are there and able to work."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

import redis.asyncio

from streammesh import lua
from streammesh.group_place import group_place
from streammesh.health import Pulse
from streammesh.keys import Keys
from streammesh.lua.services import ShowLifeScript
from streammesh.redisio.mesh_format import FORMAT, NEWER, OLDER, end_overtaken, migrate

BEAT_SECONDS = 3.0
OVERDUE_SECONDS = BEAT_SECONDS + 1.5  # since an answer: Redis is away, though a call to it goes on trying
FRESH_MS = 10_000  # three beats may fail before a process counts as gone
FORGET_MS = 60_000
GOODBYE_SECONDS = 1.0


def process_name(role: str) -> str:
    """`role@host:pid`, what this process is called in consumer groups, leases and logs; `role@host/2:pid` in a group."""
    place = group_place()
    return f"{role}@{socket.gethostname()}{f'/{place.number}' if place else ''}:{os.getpid()}"


def life_call(keys: Keys, role: str, name: str, edition: str = "") -> lua.Call[str]:
    """`show_life.lua`: one sign of life; answers how the mesh's format stands to this process's (`mesh_format.py`).

    Redis's clock counts, so a machine with a wrong one hides nobody. `edition`: the digest of what a worker runs (`edition.py`).
    """
    return ShowLifeScript(
        alive=keys.alive(role),
        last_seen=keys.last_seen(),
        editions=keys.editions(role),
        format=keys.format(),
        name=name,
        forget_after=FORGET_MS,
        role=role,
        mine=FORMAT,
        edition=edition,
    ).call(lambda standing: str(standing.decode()))


async def show_life(
    client: redis.asyncio.Redis,
    keys: Keys,
    role: str,
    pulse: Pulse | None = None,
    seconds: float = BEAT_SECONDS,
) -> None:
    """Write this process's name every few seconds; takes it off the list when cancelled.

    `pulse` beats with every answer of Redis.
    """
    name = process_name(role)
    pulse = pulse or Pulse()
    try:
        while True:
            standing = await lua.run(client, life_call(keys, role, name))
            pulse.beat()
            if standing == NEWER:
                end_overtaken()
            elif standing == OLDER:  # it was away as this process began, or lost its data
                await migrate(client, keys)
            await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        with suppress(Exception):  # where Redis is away, the name is forgotten there after a while
            async with asyncio.timeout(GOODBYE_SECONDS):
                await client.zrem(keys.alive(role), name)
        raise
    except Exception as error:
        pulse.rest(f"does not answer: {type(error).__name__}")
        raise


async def alive(client: redis.asyncio.Redis, keys: Keys, role: str) -> list[str]:
    """The names of the processes of a role that showed life in the last seconds."""
    seconds, _ = await client.time()
    since = seconds * 1000 - FRESH_MS
    found = await client.zrange(keys.alive(role), str(since), "+inf", byscore=True)
    return [name.decode("utf-8", "replace") for name in found]
