"""What is wrong with the mesh is logged and told directly: once, after a while, and when it is over."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from streammesh import Retry
from streammesh.embedded import EmbeddedServer
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings

from services.scheduler import status_watch
from services.scheduler.status_watch import PATIENCE_SECONDS, REMIND_MS, StatusWatch


class Ear:
    """A webhook, and a clock."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.away = False
        self.now = 0.0

    async def tell(self, text: str) -> int:
        if self.away:
            raise Retry("the webhook cannot be reached")
        self.heard.append(text)
        return 200


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def watch(mesh_redis, mesh_keys, mesh_settings, ear) -> StatusWatch:
    return StatusWatch(mesh_redis, mesh_keys, mesh_settings, ear.tell, lambda: ear.now)


@pytest.fixture
def other(mesh_redis, mesh_keys, mesh_settings, ear) -> StatusWatch:
    return StatusWatch(mesh_redis, mesh_keys, mesh_settings, ear.tell, lambda: ear.now)


async def lives(mesh_redis, mesh_keys, *roles: str) -> None:
    for role in roles:
        await mesh_redis.zadd(mesh_keys.alive(role), {f"{role}@test:1": time.time() * 1000})


async def test_a_missing_dispatcher_is_told_without_one_and_once(watch, other, ear, mesh_redis, mesh_keys):
    assert await watch.run_once() == []
    await other.run_once()
    ear.now = PATIENCE_SECONDS
    said = {one.code for one in await watch.run_once()}
    await other.run_once()
    ear.now += 60
    await watch.run_once()

    assert "no-dispatcher" in said
    assert [text.splitlines()[0] for text in ear.heard] == [
        "no dispatcher is alive: events wait in their streams"
    ]
    await lives(mesh_redis, mesh_keys, "dispatcher")
    await watch.run_once()
    await other.run_once()
    assert ear.heard[1:] == ["over: no dispatcher is alive: events wait in their streams"]


async def test_what_is_short_wakes_nobody(watch, ear, mesh_redis, mesh_keys):
    await watch.run_once()
    await lives(mesh_redis, mesh_keys, "dispatcher", "beat")
    ear.now = PATIENCE_SECONDS
    await watch.run_once()

    assert ear.heard == []


async def test_what_lasts_is_told_again(watch, ear, mesh_redis, mesh_keys):
    await watch.run_once()
    ear.now = PATIENCE_SECONDS
    await watch.run_once()
    await mesh_redis.delete(mesh_keys.alert_told("no-dispatcher dispatcher"))  # as when it expires
    ear.now += REMIND_MS / 1000 + 1
    await watch.run_once()

    assert len(ear.heard) == 2


async def test_a_webhook_that_is_away_is_tried_again(watch, ear):
    await watch.run_once()
    ear.now, ear.away = PATIENCE_SECONDS, True
    await watch.run_once()
    ear.now, ear.away = ear.now + 10, False
    await watch.run_once()

    assert len(ear.heard) == 1


async def test_that_redis_is_away_is_told_without_redis(tmp_path, ear):
    with EmbeddedServer(tmp_path, appendonly=False) as server:
        settings = MeshSettings(
            _env_file=None, redis_url=server.url, redis_timeout=timedelta(milliseconds=200)
        )
        client = open_async(settings, "test")
        watch = StatusWatch(client, Keys("mesh"), settings, ear.tell, lambda: ear.now)
        server.pause()
        try:
            await watch.run_once()
            ear.now = PATIENCE_SECONDS
            await watch.run_once()
        finally:
            server.resume()
        await client.aclose()

    assert ear.heard[0].startswith("Redis cannot be asked how the mesh is")


async def test_warnings_are_logged_and_nobody_is_woken(watch, ear, mesh_redis, mesh_keys, capsys):
    await lives(mesh_redis, mesh_keys, "dispatcher")
    await watch.run_once()
    ear.now = PATIENCE_SECONDS
    await watch.run_once()
    await watch.run_once()

    told = capsys.readouterr().out
    assert ear.heard == [] and told.count("no Beat is alive") == 1 and "mesh.finding" in told


async def test_a_look_that_breaks_is_told_as_such(watch, ear, monkeypatch):
    async def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(status_watch, "read_snapshot", broken)
    await watch.run_once()
    ear.now = PATIENCE_SECONDS

    assert [one.code for one in await watch.run_once()] == ["redis-away"]
