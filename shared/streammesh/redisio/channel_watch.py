"""Hears at once that something has changed, over pub/sub, and looks now and then all the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError


async def watch(
    client: redis.asyncio.Redis,
    channel: str,
    changed: Callable[[str], None],
    every: timedelta,
    patience: timedelta,
) -> None:
    """Call `changed` with what is told on a channel, at once, and with `look` now and then all the same.

    Raises redis-py's ConnectionError when the connection does not answer within `patience`.
    """
    pubsub = client.pubsub()
    async with pubsub:
        await pubsub.subscribe(channel)
        changed("look")
        limit, asked = every, False
        while True:
            told = await pubsub.get_message(timeout=limit.total_seconds())
            if told is not None:
                limit, asked = every, False
                if told["type"] == "message":
                    changed(told["data"].decode("utf-8", "replace"))
                continue
            if asked:
                raise RedisConnectionError(f"no answer within {patience.total_seconds():g} s")
            changed("look")
            await pubsub.ping()  # a connection that nobody speaks on may be gone without a word
            limit, asked = patience, True
