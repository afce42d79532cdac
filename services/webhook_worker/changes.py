"""Hears at once that a webhook has changed, or that one has something due."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from streammesh.keys import Keys

QUIET = timedelta(seconds=5)


async def watch(
    client: redis.asyncio.Redis, keys: Keys, changed: Callable[[str], None], patience: timedelta
) -> None:
    """Call `changed` with what is told, and with `look` now and then all the same.

    Raises redis-py's ConnectionError when the connection does not answer within `patience`.
    """
    pubsub = client.pubsub()
    async with pubsub:
        await pubsub.subscribe(keys.webhooks_changed())
        changed("look")
        limit, asked = QUIET, False
        while True:
            told = await pubsub.get_message(timeout=limit.total_seconds())
            if told is not None:
                limit, asked = QUIET, False
                if told["type"] == "message":
                    changed(told["data"].decode("utf-8", "replace"))
                continue
            if asked:
                raise RedisConnectionError(f"no answer within {patience.total_seconds():g} s")
            changed("look")
            await pubsub.ping()  # a connection that nobody speaks on may be gone without a word
            limit, asked = patience, True
