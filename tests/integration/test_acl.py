"""A whole mesh under the ACL rules of the page on security: each kind of process starts and works, and no more."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import httpx
import pytest
import redis
from streammesh import names
from streammesh.embedded import EmbeddedServer
from streammesh.events.envelope import Event
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.testing.conditions import wait_until, wait_until_sync
from streammesh.transport.codec import encode
from streammesh.worker.app import make_app
from streammesh.worker.message_capture import CapturingProducer

from tests.harness.processes import ROOT, MeshProcess

OTHERS = ("probe_sync", "probe_durable", "fault_fold", "bench_flow")
KEY = "a-key-for-the-acl-tests-1234"
USERS = re.compile(r"<!-- acl -->\n```\n(.*?)```", re.DOTALL)


def rules() -> dict[str, list[str]]:
    """The users of the page, each with its rules."""
    found = USERS.search((ROOT / "docs" / "security.md").read_text("utf-8"))
    assert found is not None
    users = {}
    for line in found[1].strip().splitlines():
        _, name, *words = line.split()
        users[name] = words
    # Another team's worker: the same line with the name of its service.
    for service in OTHERS:
        users[f"mesh-worker-{service}"] = [
            re.sub(r"(?<=[:=])probe(?=$|[:.*])", service, word).replace(
                names.mark_of("probe"), names.mark_of(service)
            )
            for word in users["mesh-worker-probe"]
        ]
    return users


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with EmbeddedServer(tmp_path_factory.mktemp("acl")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server):
    with redis.Redis(port=server.port, decode_responses=True) as client:
        yield client


def url_of(server: EmbeddedServer, user: str) -> str:
    password = next(word[1:] for word in rules()[user] if word.startswith(">"))
    return f"redis://{user}:{password}@127.0.0.1:{server.port}/0"


@pytest.fixture(scope="module")
def api(server, admin, tmp_path_factory):
    """The URL of the API of a mesh whose every process has its own user."""
    for name, words in rules().items():
        admin.execute_command("ACL", "SETUSER", name, "reset", *words)
    folder = tmp_path_factory.mktemp("mesh")
    parts = (
        ("dispatcher", "services.dispatcher", "mesh-dispatcher"),
        ("scheduler", "services.scheduler", "mesh-scheduler"),
        ("probe", "tests.probe", "mesh-worker-probe"),
        ("probe_sync", "tests.probe_sync", "mesh-worker-probe_sync"),
        ("probe_durable", "tests.probe_durable", "mesh-worker-probe_durable"),
        ("fault_fold", "tests.faults.workers.fold_worker", "mesh-worker-fault_fold"),
        ("bench_flow", "benchmarks.workers.flow_worker", "mesh-worker-bench_flow"),
        ("webhook_worker", "services.webhook_worker", "mesh-webhook_worker"),
        ("api", "services.api", "mesh-api"),
    )
    processes = []
    try:
        for name, module, user in parts:
            env = {
                "MESH_REDIS_URL": url_of(server, user),
                "MESH_LEASE": "2s",
                "MESH_LOG_FORMAT": "json",
                "PROBE_RECORD": str(folder / "record.txt"),
                "FAULTS_RECORD": str(folder / "faults.txt"),
                "API_PORT": "0",
                "API_ADMIN_KEY": KEY,
                "REPORT_STORE_URL": str(folder / "store"),
            }
            processes.append(MeshProcess(name, module, env, folder).start())
        log = processes[-1].log
        found = wait_until_sync(
            "the API listens", lambda: re.search(r'"url":"(http://[^"]+)"', log.read_text()), seconds=120
        )
        yield found[1]
    finally:
        for process in processes:
            process.stop()


async def test_every_kind_of_process_starts_and_works_under_its_rules(api, server, admin):
    keys = Keys()

    async def all_live() -> bool:
        return all(
            admin.zcard(keys.alive(role))
            for role in ("dispatcher", "scheduler", "probe", *OTHERS, "webhook_worker", "api")
        )

    await wait_until("every process shows life", all_live, seconds=120)
    async with httpx.AsyncClient(base_url=api, headers={"authorization": f"Bearer {KEY}"}) as client:
        for event_type in ("probe.recorded", "probe.flaky", "probe.rejected", "nobody.wants"):
            sent = await client.post("/v1/events", json={"type": event_type, "data": {"n": 1}})
            assert sent.status_code == 202
            path = f"/v1/events/{sent.json()['id']}"

            async def ended(path: str = path) -> dict[str, Any] | None:
                found = (await client.get(path)).json()
                return found if found["state"] in ("completed", "unrouted") else None

            await wait_until(f"{event_type} has ended", ended, seconds=20)
        for event_type, result in (("sync.workflow", {"total": 14}), ("sync.grouped", [1, 4, 9])):
            sent = await client.post("/v1/events", json={"type": event_type, "data": {"numbers": [1, 2, 3]}})
            path = f"/v1/events/{sent.json()['id']}"
            found = await wait_until(f"{event_type} has ended", partial(ended, path), seconds=30)
            assert found["deliveries"][0]["task"]["result"] == result
        # Follow-ups, steps, sleeps, waits, what did not come, chunks, what an event cancels, lines, batches, quiet periods.
        order = {"order": "o1", "device": "d1", "seconds": 0.1, "chunks": 2, "key": "k", "number": 1}
        kinds: dict[str, str] = {}
        for event_type in (
            *("probe.followed", "durable.ordered", "durable.sleepy", "durable.placed", "durable.bought"),
            *(
                "durable.told",
                "durable.build",
                "durable.paid",
                "durable.scrapped",
                "share.work",
                "share.work",
            ),
            *("line.work", "slow.work", "fault.saved", "fault.saved", "fault.added", "fault.added"),
        ):
            answer = await client.post("/v1/events", json={"type": event_type, "data": order})
            kinds[answer.json()["id"]] = event_type
        for event_id, event_type in kinds.items():
            path = f"/v1/events/{event_id}"
            found = await wait_until(f"{event_type} has ended", partial(ended, path), seconds=60)
            states = {delivery["task"]["state"] for delivery in found["deliveries"]}
            wanted = {"durable.build": {"cancelled"}}.get(event_type, {"succeeded", "folded"})
            assert states <= wanted, f"{event_type}: {found['deliveries']}"
        assert (await client.get("/v1/subscriptions")).status_code == 200
    app = make_app("probe", MeshSettings(_env_file=None, redis_url=url_of(server, "mesh-scheduler")))
    assert app.control.ping(timeout=3)

    async def ticked() -> bool:
        return bool(admin.zcard(keys.schedules_due()))

    await wait_until("Beat has stored its schedules", ticked, seconds=20)
    denied = {
        (entry["username"], entry["object"])
        for entry in admin.acl_log()
        # What no process needs is asked and denied: Inspector looks, where it may, at CONFIG and for shards of this name.
        if entry["object"] not in ("config|get", Keys("mesh.0").format())
    }
    assert denied == set()


def test_a_worker_can_not_read_run_forge_or_acknowledge_what_is_another_team_s(server, admin, api):
    """Whatever it tries on B's keys, by commands or from a script, with the key declared or not."""
    keys, other = Keys(), "probe_sync"
    queue, row = keys.queue(other), keys.dead(other)
    admin.xadd(queue, {"w": "1"})
    before = admin.xinfo_stream(queue)["last-generated-id"]
    with redis.Redis.from_url(url_of(server, "mesh-worker-probe")) as worker:
        for command in (
            *(("XRANGE", queue, "-", "+"), ("XLEN", queue), ("XINFO", "STREAM", queue)),
            ("XREADGROUP", "GROUP", "workers", "thief", "STREAMS", queue, ">"),
            ("XAUTOCLAIM", queue, "workers", "thief", "0", "0-0"),
            *(("XACK", queue, "workers", "1-1"), ("XDEL", queue, "1-1"), ("XTRIM", queue, "MAXLEN", "0")),
            *(
                ("XADD", queue, "*", "h", "{}", "b", "[]"),
                ("XGROUP", "DESTROY", queue, "workers"),
                ("DEL", queue),
            ),
            *(("RENAME", queue, keys.queue("probe")), ("COPY", queue, keys.queue("probe"))),
            *(("HGETALL", row), ("HSET", row, "x", "{}"), ("ZADD", keys.dead_index(other), "1", "x")),
            *(("ZADD", keys.open_tasks(other), "1", "x"), ("ZADD", keys.alive(other), "1", "x")),
            ("XADD", keys.held(f"{other}.workflow"), "*", "h", "{}"),
            *(("PUBLISH", keys.control(other), "a task"), ("SUBSCRIBE", keys.control(other))),
            ("PUBLISH", f"{keys.fanout(0)}celery.pidbox", "{}"),
            ("EVAL", "return redis.call('XLEN', KEYS[1])", "1", queue),
            ("EVAL", "return redis.call('XADD', ARGV[1], '*', 'h', '{}')", "0", queue),
            ("EVAL", "return redis.call('PUBLISH', ARGV[1], 'x')", "0", keys.control(other)),
            *(("SCAN", "0"), ("RANDOMKEY",), ("DBSIZE",)),
        ):
            with pytest.raises(redis.exceptions.ResponseError) as refused:
                worker.execute_command(*command)
            assert "permission" in str(refused.value).lower(), (command, refused.value)
    assert admin.xinfo_stream(queue)["last-generated-id"] == before
    assert "thief" not in [one["name"] for one in admin.xinfo_consumers(queue, "workers")]


def test_a_worker_takes_nothing_from_the_events_of_others_and_writes_no_other_s_manifest(server, admin, api):
    """It adds to the streams of events and joins them; what was published stays, and so does what others were given."""
    keys, other = Keys(), "probe_sync"
    stream, seal = keys.events("sync"), keys.sealed_manifest(other)
    before = admin.xinfo_stream(stream)["last-generated-id"], admin.xlen(stream), admin.get(seal)
    assert all(before)
    with redis.Redis.from_url(url_of(server, "mesh-worker-probe")) as worker:
        for command in (
            *(
                ("XACK", stream, other, "1-1"),
                ("XREADGROUP", "GROUP", other, "thief", "STREAMS", stream, ">"),
            ),
            *(
                ("XCLAIM", stream, other, "thief", "0", "1-1"),
                ("XAUTOCLAIM", stream, other, "thief", "0", "0"),
            ),
            *(("XGROUP", "SETID", stream, other, "$"), ("XGROUP", "DESTROY", stream, other)),
            ("XGROUP", "CREATECONSUMER", stream, other, "thief"),
            *(
                ("XDEL", stream, "1-1"),
                ("XTRIM", stream, "MAXLEN", "0"),
                ("DEL", stream),
                ("EXPIRE", stream, "1"),
            ),
            *(("RENAME", stream, keys.queue("probe")), ("XSETID", stream, "9-9")),
            ("EVAL", "return redis.call('XTRIM', ARGV[1], 'MAXLEN', '0')", "0", stream),
            ("EVAL", "return redis.call('XACK', ARGV[1], 'probe_sync', '1-1')", "0", stream),
            *(
                ("SET", seal, "{}"),
                ("DEL", seal),
                ("EVAL", "return redis.call('SET', ARGV[1], '{}')", "0", seal),
            ),
        ):
            with pytest.raises(redis.exceptions.ResponseError) as refused:
                worker.execute_command(*command)
            assert "permission" in str(refused.value).lower(), (command, refused.value)
    assert (admin.xinfo_stream(stream)["last-generated-id"], admin.xlen(stream), admin.get(seal)) == before


async def test_a_manifest_that_another_team_s_worker_wrote_counts_for_nothing_and_is_put_back_and_said(
    server, admin, api
):
    keys, other = Keys(), "probe_sync"
    forged = Manifest(other, subscriptions=(Subscription(other, f"{other}.workflow", "never.comes"),))
    with redis.Redis.from_url(url_of(server, "mesh-worker-probe")) as worker:
        worker.hset(keys.manifests(), other, forged.to_json())
        worker.incr(keys.manifests_version())
        worker.publish(keys.manifests_changed(), "manifests")
    async with httpx.AsyncClient(base_url=api, headers={"authorization": f"Bearer {KEY}"}) as client:
        sent = await client.post("/v1/events", json={"type": "sync.workflow", "data": {"numbers": [1]}})

        async def ended() -> bool:
            return bool((await client.get(f"/v1/events/{sent.json()['id']}")).json()["state"] == "completed")

        await wait_until("it ran all the same", ended, seconds=20)

        async def put_back() -> bool:
            return bool(admin.hget(keys.manifests(), other) == admin.get(keys.sealed_manifest(other)))

        await wait_until("its own manifest is back", put_back, seconds=20)

        async def said() -> bool:
            found = (await client.get("/v1/status")).json()["findings"]
            return any((one["code"], one["about"]) == ("manifest-refused", other) for one in found)

        await wait_until("it is said", said, seconds=20)


async def test_a_worker_can_not_read_or_change_the_rows_and_outcomes_of_another_team_s_tasks(
    server, admin, api
):
    keys = Keys()
    async with httpx.AsyncClient(base_url=api, headers={"authorization": f"Bearer {KEY}"}) as client:
        sent = await client.post("/v1/events", json={"type": "sync.workflow", "data": {"numbers": [1]}})

        async def queued() -> Any:
            return (await client.get(f"/v1/events/{sent.json()['id']}")).json()["deliveries"]

        [delivery] = await wait_until("it was handed over", queued, seconds=20)
    row = keys.task(delivery["task"]["id"])
    assert admin.hget(row, "state")
    with redis.Redis.from_url(url_of(server, "mesh-worker-probe")) as worker:
        for command in (
            *(("HGETALL", row), ("HGET", row, "outcome"), ("HSET", row, "state", "succeeded"), ("DEL", row)),
            *(("COPY", row, keys.task(f"a{names.mark_of('probe')}")), ("PEXPIRE", row, "1")),
            ("EVAL", "return redis.call('HGET', ARGV[1], 'outcome')", "0", row),
            ("XRANGE", keys.chunks(delivery["task"]["id"], "tokens"), "-", "+"),
            *(("XRANGE", keys.notifications(), "-", "+"), ("XREAD", "STREAMS", keys.notifications(), "0")),
            ("EVAL", "return redis.call('XRANGE', ARGV[1], '-', '+')", "0", keys.notifications()),
            *(("XRANGE", keys.tasks_recent(), "-", "+"), ("XINFO", "STREAM", keys.notifications())),
            *(("SUBSCRIBE", keys.told("sync.workflow")), ("PSUBSCRIBE", keys.told("*"))),
            ("PSUBSCRIBE", f"{keys.prefix}result:*"),
        ):
            with pytest.raises(redis.exceptions.ResponseError) as refused:
                worker.execute_command(*command)
            assert "permission" in str(refused.value).lower(), (command, refused.value)


async def test_an_entry_that_names_another_team_s_task_is_parked_and_the_others_beside_it_run(
    server, admin, api
):
    keys, event = (
        Keys(),
        Event(
            id="forged-1", source="tests", type="probe.recorded", time="2026-11-27T00:00:00Z", data={"n": 1}
        ),
    )
    theirs = names.task_id("tests", event.id, "probe_sync.workflow")
    url = url_of(server, "mesh-worker-probe")
    app = make_app("probe", MeshSettings(_env_file=None, redis_url=url))
    before = admin.hlen(keys.dead("probe"))
    async with httpx.AsyncClient(base_url=api, headers={"authorization": f"Bearer {KEY}"}) as client:
        for name in ("probe.recorded", "probe.nobody_knows_it"):
            producer = CapturingProducer()
            app.send_task(
                name, (event.to_dict(),), task_id=theirs, producer=producer, queue="probe", ignore_result=True
            )
            [(_, message)] = producer.take()
            admin.xadd(keys.queue("probe"), encode(message))
        sent = await client.post("/v1/events", json={"type": "probe.recorded", "data": {"n": 1}})

        async def ended() -> bool:
            found = (await client.get(f"/v1/events/{sent.json()['id']}")).json()
            return found["state"] == "completed" and admin.hlen(keys.dead("probe")) == before + 1

        await wait_until("the honest one has ended, the forged one is parked", ended, seconds=20)
        letters = (await client.get("/v1/dead-letters", params={"service": "probe"})).json()
    assert letters["dead_letters"][0]["reason"].startswith("the ledger knows no such task"), letters
    [waits] = [one for one in admin.zrange(keys.due(), 0, -1) if one.startswith(f"entry:{theirs}")]
    assert admin.zrem(keys.due(), waits)
    assert not [entry for entry in admin.acl_log() if entry["object"] == keys.task(theirs)]


def test_a_function_runs_with_the_rights_of_who_calls_it(server, admin):
    """Why scripts are no FUNCTIONs: who may call one has to have its commands and keys all the same."""
    library = "#!lua name=tried\nredis.register_function('tried', function(k) return redis.call('HSET', k[1], 'a', '1') end)"
    admin.execute_command("FUNCTION", "LOAD", library)
    admin.execute_command("ACL", "SETUSER", "caller", "reset", "on", ">secret", "~tried", "-@all", "+fcall")
    try:
        with redis.Redis(port=server.port, username="caller", password="secret") as caller:
            with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|ACL"):
                caller.execute_command("FCALL", "tried", "1", "tried")
            admin.execute_command("ACL", "SETUSER", "caller", "+hset")
            assert caller.execute_command("FCALL", "tried", "1", "tried") == 1
    finally:
        admin.execute_command("ACL", "DELUSER", "caller")
        admin.execute_command("FUNCTION", "DELETE", "tried")
        admin.delete("tried")


def test_a_worker_reaches_no_other_team_s_queue_and_no_keys(server, admin, api):
    keys = Keys()
    with redis.Redis.from_url(url_of(server, "mesh-worker-probe")) as worker:
        for key in (keys.queue("email_worker"), keys.api_keys(), keys.dead("email_worker"), keys.schedules()):
            with pytest.raises(redis.exceptions.NoPermissionError):
                worker.exists(key)
        for command in (
            "FLUSHALL",
            "KEYS *",
            "CONFIG GET *",
            "ACL LIST",
            "SHUTDOWN",
            "FUNCTION FLUSH",
            "SCRIPT FLUSH",
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                worker.execute_command(*command.split())
