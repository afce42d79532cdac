"""What `streammesh doctor` finds, each with a mesh that really is so."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import pytest
import trustme
from streammesh import lua
from streammesh.api_keys import ApiKeys
from streammesh.embedded import free_port
from streammesh.key_types import set_aside
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.redisio.inspector import ask_server
from streammesh.redisio.shard_marks import ShardMarks
from streammesh.refused_services import KEPT_MS, MOST, refusal_call
from streammesh.rollout.membership import NameTaken
from streammesh.status.diagnosis import MANY, diagnose
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import read_manifests, register_call
from streammesh.tasks.pause import pause_call
from streammesh.worker.connections import Connections
from streammesh.worker.registration import Registration

from tests.harness.tls_proxy import TlsProxy


@pytest.fixture
def found(mesh_redis, mesh_settings):
    async def found(settings=mesh_settings, client=mesh_redis, **options) -> dict[str, str]:
        said = await diagnose(client, settings, **options)
        assert all(one.text and one.do for one in said)
        return {one.code: one.text for one in said}

    return found


@pytest.fixture
async def joined(mesh_redis, mesh_keys):
    subscription = Subscription("mail", "mail.send", "user.registered")
    await lua.run(mesh_redis, register_call(mesh_keys, Manifest("mail", subscriptions=(subscription,))))


@pytest.fixture
async def alive(mesh_redis, mesh_keys, joined):
    for role in ("api", "dispatcher", "beat", "mail"):
        await mesh_redis.zadd(mesh_keys.alive(role), {f"{role}@test:1": time.time() * 1000})
    await ApiKeys(mesh_redis, mesh_keys).create("ops", admin=True)


async def test_an_empty_redis_has_nobody_in_it(found):
    assert {"no-api", "no-dispatcher", "no-beat", "no-service", "no-keys"} <= (await found()).keys()


async def test_a_mesh_that_is_well_has_none_of_these(found, alive):
    assert not {code for code in await found() if not code.startswith("redis-")}


async def test_a_redis_that_is_away_is_the_one_thing_said(found, mesh_settings):
    settings = mesh_settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    client = open_async(settings, "test")
    assert list(await found(settings, client)) == ["redis-away"]
    await client.aclose()


async def test_what_is_wrong_with_the_server_is_told(found, alive, mesh_redis):
    before = await mesh_redis.config_get("maxmemory*")
    await mesh_redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "redis-evicts" in await found()
    finally:
        await mesh_redis.config_set("maxmemory-policy", before["maxmemory-policy"])


async def test_a_service_without_workers_and_a_pause_are_told(
    found, joined, mesh_redis, mesh_keys, mesh_settings
):
    await lua.run(mesh_redis, pause_call(mesh_keys, mesh_settings, "mail.send", "user.registered", "wished"))
    said = await found()
    assert "mail" in said["no-worker"] and "mail.send" in said["paused"]


async def test_a_clock_that_is_wrong_is_told(found, alive):
    said = await found(now=lambda: time.time() + 90)
    assert "90." in said["clock-skew"] or "89." in said["clock-skew"]
    assert "ahead" in said["clock-skew"]


async def test_a_key_of_another_type_that_was_set_aside_is_told(found, alive, mesh_redis, mesh_keys):
    await mesh_redis.set(set_aside(mesh_keys.domains()), "garbage")
    assert "1 keys" in (await found())["keys-set-aside"]


def worker(mesh_settings, mesh_keys, task="mail.send", **changes):
    settings = mesh_settings.model_copy(update=changes)
    connections = Connections(settings, "test")
    return Registration(
        connections, mesh_keys, settings, Manifest("mail", subscriptions=(Subscription("mail", task, "a.b"),))
    )


async def test_a_worker_that_was_refused_is_told_until_one_is_let_in(found, alive, mesh_settings, mesh_keys):
    theirs = worker(mesh_settings, mesh_keys, service_key="theirs")
    with pytest.raises(NameTaken):
        worker(mesh_settings, mesh_keys, "mail.steal").join(first=True)  # a worker of mail lives
    assert "'mail' is taken" in (await found())["manifest-refused"]
    theirs.join(first=True)
    assert "manifest-refused" not in await found()
    with pytest.raises(NameTaken):
        worker(mesh_settings, mesh_keys, service_key="ours").join(first=True)
    assert "another MESH_SERVICE_KEY" in (await found())["manifest-refused"]


async def test_a_manifest_that_cannot_be_read_is_told(found, alive, mesh_redis, mesh_keys):
    await mesh_redis.hset(mesh_keys.manifests(), "billing", '{"service": "mail"}')
    assert "billing: its manifest was refused: what is stored" in (await found())["manifest-refused"]


async def test_a_manifest_that_somebody_else_wrote_is_told_and_does_not_count(
    found, alive, mesh_redis, mesh_keys
):
    forged = Manifest("mail", subscriptions=(Subscription("mail", "mail.other", "a.b"),))
    await mesh_redis.hset(mesh_keys.manifests(), "mail", forged.to_json())
    assert "somebody else wrote its manifest" in (await found())["manifest-refused"]
    [read] = await read_manifests(mesh_redis, mesh_keys)
    assert [one.task for one in read.subscriptions] == ["mail.send"]


async def test_refusals_are_bounded_and_garbage_among_them_is_stepped_over(
    found, alive, mesh_redis, mesh_keys
):
    for number in range(MOST + 1):
        await lua.run(mesh_redis, refusal_call(mesh_keys, f"s{number}", "no" * 1_000))
    assert await mesh_redis.hlen(mesh_keys.refusals()) == 1
    assert 0 < await mesh_redis.pttl(mesh_keys.refusals()) <= KEPT_MS
    await mesh_redis.hset(mesh_keys.refusals(), b"\xff", b"\xff \xff")
    assert f"s{MOST}: its manifest was refused 0 s ago" in (await found())["manifest-refused"]


async def test_keys_that_should_end_and_do_not_are_told(found, alive, mesh_redis, mesh_keys):
    await lua.run(mesh_redis, refusal_call(mesh_keys, "mail", "it ends"))
    for number in range(MANY):
        await mesh_redis.hset(mesh_keys.task(f"open{number}"), "state", "queued")
        await mesh_redis.set(f"{mesh_keys.prefix}result:{number}", "x")
        await mesh_redis.set(f"{mesh_keys.prefix}event:{number}", "x", ex=60)
    assert "keys-never-expire" not in await found()
    for number in range(MANY):
        await mesh_redis.hset(mesh_keys.task(f"ended{number}"), "state", "succeeded")
    assert f"{MANY} of " in (said := (await found())["keys-never-expire"]) and "`task`" in said
    for number in range(MANY):
        await mesh_redis.delete(mesh_keys.task(f"ended{number}"))
        await mesh_redis.set(f"{mesh_keys.prefix}cache:{number}", "x")
    assert "no kind that the mesh has" in (await found())["keys-never-expire"]


async def test_keys_that_end_are_told(found, alive, mesh_redis, mesh_keys):
    keys = ApiKeys(mesh_redis, mesh_keys)
    await keys.create("soon", subscribe=["*"], expires=timedelta(days=3))
    await keys.create("later", subscribe=["*"], expires=timedelta(days=90))
    said = await found()
    assert "'soon' expires in 3 days" in said["key-ends"]
    assert "expired" in (await found(now=lambda: time.time() + 4 * 86_400))["key-ends"]


@pytest.fixture
def shards(mesh_settings):
    """The settings of a mesh of two shards that has begun, whose marks are on disk."""
    whole = mesh_settings.model_copy(update={"shards": 2})
    each = [whole.of_shard(number) for number in range(2)]
    for settings in each * 2:  # the second look finds them old
        assert ShardMarks(settings, ask_server).findings() == []
        with ask_server(settings) as client:
            client.hset(Keys(settings.namespace).format(), "since", 1)
    return each


async def test_settings_that_do_not_fit_the_marks_of_the_shards_are_told(
    found, shards, mesh_settings, mesh_redis
):
    assert not {code for code in await found(shards[1]) if code.startswith(("shard", "mesh-"))}
    assert "has 2 shards" in (await found(mesh_settings))["shards-differ"]
    three = mesh_settings.model_copy(update={"shards": 3}).of_shard(1)
    assert "MESH_SHARDS is 3" in (await found(three))["shards-differ"]
    marks = Keys(shards[1].namespace).format()
    await mesh_redis.hset(marks, "birth", "another")
    assert "shard 1 belongs to another mesh" in (await found(shards[1]))["shard-of-another-mesh"]
    await mesh_redis.delete(marks)
    assert "shard 1 is empty" in (await found(shards[1]))["shard-empty"]
    assert not await mesh_redis.exists(marks)  # doctor looks only


async def test_events_that_wait_for_another_shard_are_told(found, shards, mesh_redis):
    outbox = Keys(shards[0].namespace).outbox(1)
    await mesh_redis.xadd(outbox, {"e": b"{}"})
    assert "outbox-waits" not in await found(shards[0])  # a dispatcher may be bringing it there
    await mesh_redis.delete(outbox)
    for ms in (90_000, 80_000):
        await mesh_redis.xadd(outbox, {"e": b"{}"}, id=int(time.time() * 1000) - ms)
    assert "2 events that belong to shard 1" in (await found(shards[0]))["outbox-waits"]
    await mesh_redis.delete(outbox)
    await mesh_redis.set(outbox, "garbage")
    assert "outbox-waits" not in await found(shards[0])


@pytest.mark.parametrize(("knows_ca", "code"), [(True, "tls-ends"), (False, "tls-refused")])
async def test_certificates_are_looked_at(found, alive, mesh_server, mesh_settings, tmp_path, knows_ca, code):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ends = datetime.now() + timedelta(days=5)
    with TlsProxy(mesh_server.port, authority, not_after=ends) as proxy:
        settings = mesh_settings.model_copy(
            update={
                "redis_url": f"rediss://localhost:{proxy.port}/0",
                "redis_tls_ca": tmp_path / "ca.pem" if knows_ca else None,
            }
        )
        said = await found(settings)
    assert code in said
    assert not knows_ca or "days" in said[code]
