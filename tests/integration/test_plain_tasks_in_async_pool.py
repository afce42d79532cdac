"""Plain Celery tasks in a worker of async handlers: beside them in threads, with limits and revocation."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from billiard.exceptions import WorkerLostError
from celery.exceptions import TaskRevokedError, TimeLimitExceeded
from celery.result import allow_join_result
from streammesh.testing.conditions import wait_until
from streammesh.worker.app import make_app

from tests.probe.record import runs

SERVICES = ["tests.probe"]


@pytest.fixture(scope="module")
def app(mesh):
    app = make_app("probe", mesh.settings)
    yield app
    app.pool.force_close_all()
    app.backend.client.connection_pool.disconnect()
    app.close()


@pytest.fixture
def send(app):
    """Sends a plain task of the worker; answers its AsyncResult."""

    def send(name, *args, **options):
        return app.send_task(f"tests.probe.plain.{name}", args, **options)

    return send


async def result_of(sent, seconds=10.0):
    with allow_join_result():
        return await asyncio.to_thread(sent.get, timeout=seconds)


async def test_it_blocks_no_handler(ask, send):
    sent = send("nap", 2.0)
    await asyncio.sleep(0.2)
    began = time.monotonic()
    assert (await ask.run("probe.noop")).state == "succeeded"
    assert time.monotonic() - began < 1.5
    assert await result_of(sent) == sent.id


async def test_many_run_side_by_side(send):
    began = time.monotonic()
    sent = [send("nap", 1.0) for _ in range(20)]
    assert [await result_of(one) for one in sent] == [one.id for one in sent]
    assert time.monotonic() - began < 8


async def test_its_soft_limit_is_raised_in_it(ask, send):
    assert await result_of(send("crawl", 30, "a", soft_time_limit=0.3)) == "soft"
    assert runs(ask.mesh.record)["soft a"] == 1


async def test_its_hard_limit_ends_it_and_tells_its_caller(ask, send):
    sent = send("crawl", 2.0, "b", time_limit=0.3)
    with pytest.raises(TimeLimitExceeded):
        await result_of(sent, 5)
    await asyncio.sleep(2.2)
    assert runs(ask.mesh.record)["crawl-done b"] == 0


async def test_one_that_blocks_has_ended_for_its_caller_and_does_not_go_on(ask, send):
    sent = send("nap", 2.0, "c", time_limit=0.3)
    with pytest.raises(TimeLimitExceeded):
        await result_of(sent, 1.5)
    await asyncio.sleep(2.2)
    assert runs(ask.mesh.record)["nap-done c"] == 0
    assert sent.state == "FAILURE"


async def test_a_revoked_one_is_terminated(ask, app, send):
    sent = send("crawl", 3.0, "d")

    async def active():
        found = await asyncio.to_thread(app.control.inspect(timeout=5, limit=1).active)
        return sent.id in [task["id"] for tasks in (found or {}).values() for task in tasks]

    await wait_until("it runs", active)
    app.control.revoke(sent.id, terminate=True)
    with pytest.raises(TaskRevokedError):
        await result_of(sent, 2)
    await asyncio.sleep(3)
    assert runs(ask.mesh.record)["crawl-done d"] == 0


@pytest.mark.parametrize("how", ["exit", "interrupt", "other"])
async def test_one_that_asks_for_the_end_of_the_worker_fails_for_its_caller(ask, app, send, how):
    name = f"e-{how}"
    linked = app.signature("tests.probe.plain.note", kwargs={"name": name})
    sent = send("leave", how, link_error=linked)
    with pytest.raises(WorkerLostError):
        await result_of(sent, 5)

    async def told():
        return any(line.startswith(f"errback {name}") for line in runs(ask.mesh.record))

    await wait_until("the errback ran", told)
    assert (await ask.run("probe.noop")).state == "succeeded"


VALUES = [
    *(datetime(2026, 11, 27, tzinfo=UTC), date(2026, 11, 27), uuid.UUID(int=7), Decimal("1.10"), b"\xff"),
    *(2**70, {"__type__": "datetime", "__value__": "no date"}, [{"at": date(2026, 1, 1)}]),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_what_celery_knows_comes_out_as_it_went_in(send, value):
    assert await result_of(send("echo", value)) == value


async def test_a_shared_task_of_a_client_reaches_the_service(ask):
    client = "from tests.probe.plain import shared; print(shared.delay(4).get(timeout=10))"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", client), env={**os.environ, **ask.mesh.env}, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert out.split() == [b"5"]
