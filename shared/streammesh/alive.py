"""Signs of life: which processes of a role or service are there and able to work."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import redis.asyncio

from streammesh.keys import Keys

BEAT_SECONDS = 3.0
FRESH_MS = 10_000  # three beats may fail before a process counts as gone
FORGET_MS = 60_000


def process_name(role: str) -> str:
    """`role@host:pid`, what this process is called in consumer groups, leases and logs."""
    return f"{role}@{socket.gethostname()}:{os.getpid()}"


def beat_commands(key: str, name: str, now_ms: int) -> list[tuple[str | int, ...]]:
    """The commands of one sign of life."""
    return [("ZADD", key, now_ms, name), ("ZREMRANGEBYSCORE", key, 0, now_ms - FORGET_MS)]


async def show_life(client: redis.asyncio.Redis, keys: Keys, role: str) -> None:
    """Write this process's name every few seconds; takes it off the list when cancelled."""
    key, name = keys.alive(role), process_name(role)
    try:
        while True:
            pipeline = client.pipeline(transaction=False)
            for command in beat_commands(key, name, round(time.time() * 1000)):
                pipeline.execute_command(*command)
            await pipeline.execute()
            await asyncio.sleep(BEAT_SECONDS)
    except asyncio.CancelledError:
        await client.zrem(key, name)
        raise


async def alive(client: redis.asyncio.Redis, keys: Keys, role: str) -> list[str]:
    """The names of the processes of a role that showed life in the last seconds."""
    since = round(time.time() * 1000) - FRESH_MS
    found = await client.zrange(keys.alive(role), str(since), "+inf", byscore=True)
    return [name.decode() for name in found]
