"""The Python clients against the real API: what they ask is understood, and its answers become records."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from aiohttp import web
from streammesh.client import ApiError, MeshClient, NotEnded, SyncMeshClient
from streammesh.errors import MeshUnavailable

from services.api.tests.mesh import Running


@pytest.fixture
async def client(live, admin) -> AsyncIterator[MeshClient]:
    async with MeshClient(str(live.base_url), api_key=admin, retry_for=0) as opened:
        yield opened


async def handed_over(mesh, client, event_id: str = "1") -> Running:
    """Publish one event of a subscription, and begin its task."""
    await mesh.subscribe("audit", "order.*")
    await client.publish("order.placed", {"n": 1}, id=event_id)
    (task,) = await mesh.dispatch("order", "audit")
    return task


async def test_many_are_published_with_ids_and_sources_that_were_made_before_the_first_try(client):
    sent = await client.publish_many([{"type": "order.placed", "data": n} for n in range(3)])
    again = await client.publish_many(
        [{"id": one.id, "type": one.type, "data": n} for n, one in enumerate(sent)]
    )

    assert [(one.source, one.duplicate) for one in sent] == [("shop", False)] * 3
    assert [(one.id, one.duplicate) for one in again] == [(one.id, True) for one in sent]
    assert len({one.id for one in sent}) == 3
    assert await client.publish_many([]) == []
    await client.publish_many([{"type": "order.placed"} for n in range(117)])
    assert len({event["id"] async for event in client.events()}) == 120  # over all the pages


async def test_an_event_its_tasks_and_what_came_of_them_are_records(client, mesh):
    task = await handed_over(mesh, client)
    await mesh.start(task)

    running = await client.task(task.ref.task_id)
    assert (running.state, running.ended, running.event.type) == ("started", False, "order.placed")
    assert [one.id async for one in client.tasks(service="audit")] == [running.id]
    waiting = asyncio.create_task(client.wait("1", source="shop", timeout=10))
    await asyncio.sleep(0.05)
    await mesh.succeed(task, {"total": 2**70})
    state = await waiting

    assert (state.state, state.ended, state.succeeded) == ("completed", True, True)
    assert state.tasks[0].result == {"total": 2**70} and state.event["data"] == {"n": 1}
    assert (await client.event("1")).tasks == state.tasks
    assert [
        event["id"] async for event in client.events(type="order.*", since=datetime.now(UTC) - timedelta(1))
    ] == ["1"]
    assert [event async for event in client.events(type="user.*")] == []


async def test_waiting_for_what_does_not_end_says_what_it_waits_for(client, mesh):
    task = await handed_over(mesh, client)
    await mesh.start(task)

    began = monotonic()
    with pytest.raises(NotEnded, match=r"audit\.handle") as late:
        await client.wait("1", timeout=0.2)

    assert 0.2 <= monotonic() - began < 2 and late.value.source == "shop"


async def test_what_is_cancelled_is_cancelled_however_often_it_is_asked_for(client, mesh):
    task = await handed_over(mesh, client)

    first, second = await client.cancel(task.ref.task_id), await client.cancel(task.ref.task_id)
    done = await handed_over(mesh, client, "2")
    await mesh.start(done)
    await mesh.succeed(done)

    assert first.state == second.state == "cancelled"
    with pytest.raises(ApiError) as ended:
        await client.cancel(done.ref.task_id)
    assert (ended.value.status, ended.value.problem["state"]) == (409, "succeeded")
    assert ended.value.problem["type"] == "/problems/task-ended"


async def test_dead_letters_are_listed_replayed_and_dropped(client, mesh):
    task = await handed_over(mesh, client)
    await mesh.start(task)
    await mesh.fail(task, "no such customer")

    (letter,) = [one async for one in client.dead_letters(service="audit", type="order.*")]
    looked = await client.replay([letter.id], dry_run=True)
    dropped = await client.drop([letter.id])

    with pytest.raises(ApiError, match="keeps no history") as unknown:
        await anext(client.dead_letters(past=True))
    assert unknown.value.status == 404
    assert (letter.reason, letter.task, letter.event.id) == ("no such customer", "audit.handle", "1")
    assert (looked["matched"], looked["replayed"], dropped["dropped"]) == (1, 0, 1)


async def test_schedules_are_stored_triggered_and_deleted(client):
    event = {"type": "report.requested", "data": {}}
    stored = await client.put_schedule("daily", cron="0 9 * * *", timezone="Europe/Berlin", event=event)
    ticked = await client.trigger("daily")
    then = datetime.now(UTC) - timedelta(minutes=1)
    once, again = await client.trigger("daily", at=then), await client.trigger("daily", at=then)

    assert (stored.cron, stored.timezone, len(stored.next)) == ("0 9 * * *", "Europe/Berlin", 5)
    assert [one.name for one in await client.schedules()] == ["daily"]
    assert (ticked.type, ticked.duplicate, once.id, again.duplicate) == (
        "report.requested",
        False,
        again.id,
        True,
    )
    assert (await client.delete_schedule("daily")).name == "daily"
    assert await client.schedules() == []


async def test_a_token_is_a_key_of_a_client_and_a_refusal_carries_its_problem_document(client, live):
    await client.publish("order.placed", 1, id="1")
    token = await client.token(["order.*"], lifetime="1m")

    async with MeshClient(str(live.base_url), api_key=token.token, retry_for=0) as browser:
        assert (await browser.event("1")).type == "order.placed"
        with pytest.raises(ApiError) as refused:
            await browser.publish("order.placed", 2)
    assert refused.value.status == 403 and token.token not in repr(token)
    with pytest.raises(ApiError) as refused:
        await client.publish("", {})
    assert refused.value.problem["type"] == "/problems/invalid-event"
    assert refused.value.problem["errors"][0]["pointer"] == "/type"


async def test_a_token_for_one_glob_is_not_a_token_for_each_of_its_characters(client, live):
    await client.publish("user.seen", 1, id="1")
    token = await client.token("order.*", lifetime="1m")

    async with MeshClient(str(live.base_url), api_key=token.token, retry_for=0) as browser:
        with pytest.raises(ApiError) as refused:
            await browser.event("1")
    assert refused.value.status == 404


async def test_webhooks_are_made_changed_replayed_and_deleted(client, mesh_redis, mesh_keys):
    made = await client.create_webhook("https://shop.example/hook", "order.*", subject="order/1")
    assert made.secret.startswith("whsec_") and made.secret not in repr(made)
    assert (made.types, made.subject, made.enabled) == (("order.*",), "order/1", True)
    changed = await client.update_webhook(
        made.id, subject=None, types=["user.*", "task.failed"], ordered=True
    )
    assert (changed.types, changed.subject, changed.url) == (("user.*", "task.failed"), None, made.url)
    rotated = await client.rotate_webhook_secret(made.id, overlap="1h")
    assert (
        rotated.secret not in (made.secret, None)
        and rotated.old_until
        and rotated.secret not in repr(rotated)
    )
    (delivery,) = (await client.test_webhook(made.id)).deliveries
    assert (await client.replay_webhook(made.id, since=datetime.now(UTC) - timedelta(1))).after
    with pytest.raises(ApiError, match="one of since, after, notifications"):
        await client.replay_webhook(made.id, after="0-0", notifications=["1-1"])

    attempt = f'{{"delivery":"{delivery}","notification":"1-1","attempt":%d,"at":"2026-11-22T06:00:00.004Z",'
    attempt += '"outcome":"failed","status":500,"error":"it answered 500","seconds":0.1,"next_attempt":null}'
    for n in range(60):
        await mesh_redis.xadd(mesh_keys.webhook_attempts(made.id), {"a": attempt % n})
    told = [one async for one in client.webhook_attempts(made.id)]
    assert [one.attempt for one in told] == list(range(59, -1, -1))  # over all the pages
    assert (told[0].delivery, told[0].status, told[0].next_attempt) == (delivery, 500, None)

    state = await client.webhook(made.id)
    assert (state.waiting, state.ordered, state.secret, state.raw["secrets"]) == (1, True, None, 2)
    assert [one.id for one in await client.webhooks()] == [made.id]
    assert (await client.delete_webhook(made.id)).id == made.id
    assert await client.webhooks() == []


async def test_what_would_be_another_secret_or_webhook_is_not_asked_for_again(unused_tcp_port):
    asked: list[str] = []

    async def busy(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"title": "busy"}, status=503)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", busy)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    try:
        async with MeshClient(f"http://127.0.0.1:{unused_tcp_port}", api_key="k", retry_for=5) as client:
            for call in (
                client.create_webhook("https://x.example"),
                client.rotate_webhook_secret("wh_1"),
                client.test_webhook("wh_1"),
            ):
                with pytest.raises(MeshUnavailable):
                    await call
    finally:
        await runner.cleanup()
    assert asked == ["/v1/webhooks", "/v1/webhooks/wh_1/secret", "/v1/webhooks/wh_1/test"]


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_the_twins_have_the_same_methods_that_take_the_same():
    ours, theirs = public(SyncMeshClient), public(MeshClient)

    assert ours.keys() == theirs.keys()
    for name, signature in theirs.items():
        assert ours[name].parameters == signature.parameters, name


async def test_the_twin_that_blocks_publishes_follows_lists_and_raises(live, admin, mesh):
    def program(url: str) -> None:
        with SyncMeshClient(url, api_key=admin, retry_for=0) as client:
            sent = client.publish("order.placed", {"n": 1}, id="1", subject="order/1")
            assert client.publish_many(
                [{"type": "order.placed", "id": "1", "subject": "order/1", "data": {"n": 1}}]
            )[0].duplicate
            notes = client.notifications(type="order.*", after="0-0")
            handed.set()
            assert [next(notes).type for _ in range(2)] == ["task.queued", "task.started"]
            notes.close()
            assert client.wait(sent.id, timeout=10).succeeded
            assert [note.type for note in client.notifications(event="1")][-1] == "event.completed"
            assert [event["id"] for event in client.events(subject="order/1")] == ["1"]
            with pytest.raises(ApiError):
                client.task("none")
            hook = client.create_webhook("https://shop.example/hook", ["order.*"], event="1")
            assert client.update_webhook(hook.id, event=None).event is None
            assert (
                client.replay_webhook(hook.id, after="0-0").after and client.test_webhook(hook.id).deliveries
            )
            assert list(client.webhook_attempts(hook.id)) == []
            assert client.rotate_webhook_secret(hook.id, overlap="0s").old_until is None
            assert client.webhook(hook.id).id == client.webhooks()[0].id == client.delete_webhook(hook.id).id
            follower.extend([client.notifications(), client])
            stuck.append(threading.Thread(target=blocked))
            stuck[0].start()
        stuck[0].join(5)
        assert isinstance(ended[0], RuntimeError)
        with pytest.raises(RuntimeError, match="was closed"):
            client.ping()

    def blocked() -> None:
        try:
            next(follower[0])
        except RuntimeError as error:
            ended.append(error)

    handed, stuck, follower, ended = threading.Event(), [], [], []
    await mesh.subscribe("audit", "order.*")
    running = asyncio.create_task(asyncio.to_thread(program, str(live.base_url)))
    await asyncio.to_thread(handed.wait, 5)
    (task,) = await mesh.dispatch("order", "audit")
    await mesh.start(task)
    await asyncio.sleep(0.05)
    await mesh.succeed(task)
    await running


async def test_a_client_that_was_made_before_a_fork_serves_both_processes(live, admin):
    program = """
import os, sys
from streammesh.client import SyncMeshClient
mesh = SyncMeshClient(sys.argv[1], api_key=sys.argv[2], retry_for=0)
mesh.publish("order.placed", 1, id="parent")
child = os.fork()
if child == 0:
    mesh.publish("order.placed", 1, id="child")
    sys.exit(0)
_, status = os.waitpid(child, 0)
mesh.publish("order.placed", 1, id="parent again")
sys.exit(os.waitstatus_to_exitcode(status))
"""
    command = [sys.executable, "-W", "error", "-c", program, str(live.base_url), admin]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=20)

    assert (done.returncode, done.stderr) == (0, "")
    listed = (await live.get("/v1/events")).json()["events"]
    assert [event["id"] for event in listed] == ["parent again", "child", "parent"]


def test_the_clients_bring_no_redis_and_no_celery_and_are_loaded_at_once():
    program = """
import resource, sys
def used(): return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
before = used()
import streammesh.client
print(used() - before)
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"redis", "celery", "kombu", "aiohttp", "pydantic", "structlog", "fastapi"}))
with streammesh.client.SyncMeshClient("http://127.0.0.1:9", api_key="k", retry_for=0) as mesh:
    try:
        mesh.ping()
    except streammesh.MeshUnavailable:
        pass
loaded = {name.partition(".")[0] for name in sys.modules}
print(*sorted(loaded & {"redis", "celery", "kombu", "pydantic", "structlog", "fastapi"}))
"""
    environment = {**os.environ, "COVERAGE_PROCESS_START": ""}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=30,
        check=True,
    )
    seconds, at_import, in_use = done.stdout.split("\n")[:3]

    assert (at_import, in_use) == ("", "")
    assert float(seconds) < 0.25


async def test_nobody_there_is_said_at_once(unused_tcp_port):
    with (
        SyncMeshClient(f"http://127.0.0.1:{unused_tcp_port}", api_key="k", retry_for=0) as client,
        pytest.raises(MeshUnavailable),
    ):
        client.ping()
