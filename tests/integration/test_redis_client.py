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


@pytest.mark.parametrize("blocking", [False, True])
async def test_an_address_that_accepts_and_says_nothing_is_given_up_in_time(blocking):
    opened: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: opened.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    settings = MeshSettings(
        _env_file=None, redis_url=f"redis://127.0.0.1:{port}", redis_timeout=timedelta(milliseconds=200)
    )
    client = open_async(settings, "test", blocking=blocking)
    with pytest.raises(RedisTimeoutError):
        async with asyncio.timeout(5):
            await client.xread({"s": "0"}, block=60_000)
    await client.aclose()
    for writer in opened:
        writer.close()
    silent.close()
