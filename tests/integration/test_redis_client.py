"""Clients: a command can be cancelled wherever it is, and a hung server is noticed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from redis.exceptions import TimeoutError as RedisTimeoutError
from streammesh.embedded import EmbeddedServer
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_command_stays_cancelled(mesh_redis, turns):
    async def ask():
        pipeline = mesh_redis.pipeline(transaction=False)
        await pipeline.ping().ping().execute()
        await mesh_redis.ping()

    await ask()
    for _ in range(50):
        task = asyncio.create_task(ask())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            continue
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_after_many_cancelled_commands_answers_belong_to_their_questions(mesh_redis):
    for turns in range(10):
        tasks = [asyncio.create_task(mesh_redis.echo(f"old-{n}")) for n in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        answers = await asyncio.gather(*(mesh_redis.echo(f"new-{n}") for n in range(20)))
        assert answers == [f"new-{n}".encode() for n in range(20)]


async def test_writing_to_a_hung_server_ends_with_a_timeout(tmp_path):
    with EmbeddedServer(tmp_path, appendonly=False) as server:
        settings = MeshSettings(
            _env_file=None, redis_url=server.url, redis_timeout=timedelta(milliseconds=200)
        )
        client = open_async(settings, "test")
        await client.ping()
        server.pause()
        try:
            with pytest.raises(RedisTimeoutError):
                await client.set("large", b"x" * 32_000_000)  # more than the sockets' buffers hold
        finally:
            server.resume()
        assert await client.ping()
        await client.aclose()
