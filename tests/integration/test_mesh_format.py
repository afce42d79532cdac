"""The version of keys and scripts: an older mesh is migrated, a newer one is waited for and said, by every process."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from functools import partial
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import redis as redis_py
from streammesh import lua
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.health import Health
from streammesh.keys import Keys
from streammesh.lua.script import Call, Script
from streammesh.redisio import mesh_format
from streammesh.redisio.mesh_format import FORMAT, MIGRATIONS, Migration, meet, migrate, read_call
from streammesh.testing.conditions import wait_until, wait_until_sync

from tests.harness.processes import MeshProcess

PAGES = b"""
local left = tonumber(redis.call('GET', KEYS[1]) or '3')
if left == 0 then return '' end
redis.call('SET', KEYS[1], left - 1)
return tostring(left - 1)
"""


async def stored(mesh_redis, mesh_keys) -> dict[bytes, bytes]:
    return await mesh_redis.hgetall(mesh_keys.format())


@pytest.mark.parametrize("before", [{}, {"version": "no number"}, {"version": "9" * 40, "oldest": "-1"}])
async def test_a_mesh_without_a_version_that_can_be_read_is_given_one(mesh_redis, mesh_keys, before):
    for field, value in before.items():
        await mesh_redis.hset(mesh_keys.format(), field, value)
    health = Health()
    await meet(mesh_redis, mesh_keys, health, None)
    await migrate(mesh_redis, mesh_keys)  # repeated, it changes nothing

    expected = {b"version": str(FORMAT).encode(), b"oldest": str(MIGRATIONS[-1].oldest).encode()}
    assert await stored(mesh_redis, mesh_keys) == expected
    assert health.ready()["parts"]["mesh"]["ok"]


async def test_a_migration_goes_in_pages_and_on_where_it_was_killed(mesh_redis, mesh_keys, monkeypatch):
    script = Script("pages", PAGES, hashlib.sha1(PAGES, usedforsecurity=False).hexdigest())
    made = []

    def step(keys: Keys, at: str) -> Call[str]:
        made.append(at)
        if len(made) == 2:
            raise SystemExit("killed")
        return Call(script, [f"{keys.prefix}pages"], [], lambda answer: str(answer.decode()))

    following = Migration(FORMAT + 1, oldest=FORMAT + 1, step=step)
    await migrate(mesh_redis, mesh_keys)
    monkeypatch.setattr(mesh_format, "MIGRATIONS", (*MIGRATIONS, following))
    monkeypatch.setattr(mesh_format, "FORMAT", FORMAT + 1)
    with pytest.raises(SystemExit):
        await migrate(mesh_redis, mesh_keys)
    assert (await stored(mesh_redis, mesh_keys))[b"version"] == str(FORMAT).encode()
    await asyncio.gather(migrate(mesh_redis, mesh_keys), migrate(mesh_redis, mesh_keys))

    assert (await stored(mesh_redis, mesh_keys))[b"version"] == str(FORMAT + 1).encode()
    assert await mesh_redis.get(f"{mesh_keys.prefix}pages") == b"0"
    monkeypatch.setattr(mesh_format, "FORMAT", FORMAT)
    assert (await lua.run(mesh_redis, read_call(mesh_keys))).why_not is not None


async def test_a_newer_mesh_is_waited_for_and_the_reason_is_told(mesh_redis, mesh_keys, monkeypatch):
    monkeypatch.setattr(mesh_format, "AGAIN_SECONDS", 0.02)
    await mesh_redis.hset(mesh_keys.format(), mapping={"version": FORMAT + 2, "oldest": FORMAT + 1})
    health, stop = Health(), asyncio.Event()
    waiting = asyncio.create_task(meet(mesh_redis, mesh_keys, health, stop))
    parts = await wait_until(
        "it says why", lambda: _async(health.ready()["status"] == "not ready" and health.ready()["parts"])
    )
    assert "for processes of format" in parts["mesh"]["detail"] and not waiting.done()

    await mesh_redis.hset(mesh_keys.format(), "oldest", FORMAT)  # newer, and we may work beside it
    await asyncio.wait_for(waiting, 5)
    assert health.ready()["status"] == "ready"

    await mesh_redis.hset(mesh_keys.format(), "oldest", FORMAT + 1)
    waiting = asyncio.create_task(meet(mesh_redis, mesh_keys, health, stop))
    await asyncio.sleep(0)
    stop.set()
    await asyncio.wait_for(waiting, 5)


async def _async(value):
    return value


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> Iterator[tuple[redis_py.Redis, dict[str, tuple[MeshProcess, int]]]]:
    folder, started = tmp_path_factory.mktemp("format"), {}
    with EmbeddedServer(folder / "redis") as server, redis_py.Redis(port=server.port) as client:
        client.hset(Keys().format(), mapping={"version": FORMAT + 1, "oldest": FORMAT + 1})
        try:
            for name in ("services.dispatcher", "services.api", "services.scheduler", "tests.probe"):
                port = free_port()
                env = {
                    "MESH_REDIS_URL": server.url,
                    "MESH_HEALTH_PORT": str(port),
                    "API_PORT": "0",
                    "MESH_LOG_FORMAT": "json",
                    "PROBE_RECORD": str(folder / "record.txt"),
                    "REPORT_STORE_URL": str(folder / "store"),
                }
                started[name] = MeshProcess(name, name, env, folder).start(), port
            yield client, started
        finally:
            for process, _ in started.values():
                process.stop()


def has_ended(process: MeshProcess) -> bool:
    return not process.running


def why_not(port: int) -> str:
    """Why a process is not ready, once it has looked at the mesh."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            found = json.loads(answer.read())
    except HTTPError as error:
        found = json.loads(error.read())
    except OSError:
        return ""
    told = found["parts"].get("mesh", {"ok": True})
    return "" if told["ok"] or "was not read" in told["detail"] else str(told["detail"])


def test_every_process_waits_for_a_newer_mesh_works_in_its_own_and_ends_when_overtaken(processes):
    client, started = processes
    keys = Keys()
    for name, (process, port) in started.items():
        told = wait_until_sync(f"{name} says that it waits", partial(why_not, port), seconds=40)
        assert "start a newer version" in told, name
        assert process.running and '"mesh.newer"' in process.log.read_text()
    assert not client.exists(keys.alive("dispatcher"), keys.alive("api"), keys.alive("probe"))

    client.delete(keys.format())
    for role in ("dispatcher", "api", "scheduler", "probe", "beat"):
        wait_until_sync(f"{role} works", partial(client.zcard, keys.alive(role)), seconds=40)
    assert client.hget(keys.format(), "version") == str(FORMAT).encode()

    client.hset(keys.format(), mapping={"version": FORMAT + 1, "oldest": FORMAT + 1})
    for name, (process, _) in started.items():
        wait_until_sync(f"{name} ends", partial(has_ended, process), seconds=40)
