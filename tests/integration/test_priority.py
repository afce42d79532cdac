"""Which of a service's tasks run first: by priority, over the front door and as plain Celery tasks, and by queue."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from streammesh import lua
from streammesh.tasks.settlement import cancel_call
from streammesh.testing.conditions import wait_until, wait_until_sync
from streammesh.worker.app import make_app

from tests.harness.processes import MeshProcess
from tests.probe_queues.service import service

SERVICES = ["tests.probe_queues"]
CONCURRENCY = "1"
PLAIN = "tests.probe_queues.service.plain"
KEY = "a-key-for-these-tests-1234"


@pytest.fixture(scope="module")
def api_url(mesh):
    environment = {**mesh.env, "API_PORT": "0", "API_ADMIN_KEY": KEY}
    environment["REPORT_STORE_URL"] = str(mesh.folder / "store")
    with MeshProcess("api", "services.api", environment, mesh.folder) as process:
        found = wait_until_sync(
            "the API listens", lambda: re.search(r'"url":"(http://[^"]+)"', process.log.read_text())
        )
        yield found[1]


@pytest.fixture
async def api(api_url) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=api_url, headers=headers, timeout=20) as client:
        yield client


@pytest.fixture
def plain(mesh):
    """A plain task of the service, as another program that has its app sends it."""
    app = make_app(service.name, mesh.settings)

    @app.task(name=PLAIN)
    def plain(n: int) -> None:
        """Is not run here."""

    return plain


@pytest.fixture
def lines(mesh):
    """What was recorded since the test began, in order."""
    before = len(mesh.record.read_text().splitlines()) if mesh.record.exists() else 0

    def read() -> list[str]:
        whole = mesh.record.read_text().splitlines() if mesh.record.exists() else []
        return [line.split(" ", 2)[2] for line in whole[before:]]

    return read


async def happens(what: str, condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await wait_until(what, holds)


async def publish(api: httpx.AsyncClient, count: int, priority: int, kind: str = "usual", **data) -> None:
    events = [
        {
            "specversion": "1.0",
            "id": f"{kind}-{priority}-{n}-{id(data)}",
            "source": "admin",
            "type": f"queues.{kind}",
            "priority": priority,
            "data": {"n": f"{priority}.{n}", **data},
        }
        for n in range(count)
    ]
    answer = await api.post(
        "/v1/events", json=events, headers={"content-type": "application/cloudevents-batch+json"}
    )
    assert answer.status_code == 202, answer.text


async def test_nine_urgent_events_run_before_the_rest_of_sixty_that_were_published_before(api, lines):
    await publish(api, 60, 1, seconds=0.03)
    await happens("some have run", lambda: len(lines()) >= 3)
    await publish(api, 9, 9)
    ran = len(lines())
    await happens("all have run", lambda: len(lines()) == 69)

    nine = [at for at, line in enumerate(lines()) if line.startswith("usual 9.")]
    assert len(nine) == 9
    assert nine[-1] < ran + 30, "they waited for the low ones"
    assert nine[-1] - nine[0] <= 9, "one low task at most ran between two of them"


async def test_plain_celery_tasks_take_their_turn_by_the_same_scale(api, plain, lines, ask):
    await publish(api, 1, 5, seconds=0.5)
    await happens("the worker is busy", lambda: len(lines()) == 1)
    for priority in (0, 3, None, 9, 6):
        plain.apply_async((priority,), priority=priority)
    plain.app.send_task(PLAIN, ("by name",))
    await publish(api, 1, 7)
    await publish(api, 1, 4)
    await happens("all have run", lambda: len(lines()) == 9)

    assert lines()[1:] == [f"{who}" for who in (
        "plain 9", "usual 7.0", "plain 6", "plain None", "plain by name", "usual 4.0", "plain 3", "plain 0"
    )]  # fmt: skip


async def test_what_waits_with_a_priority_can_be_cancelled_and_is_no_lost_task(ask, lines):
    await ask.publish("queues.usual", {"n": "busy", "seconds": 0.5})
    await happens("the worker is busy", lambda: lines() == ["usual busy"])
    event_id = await ask.publish("queues.usual", {"n": "never"}, priority=2)

    async def queued():
        found = await ask.rows.events(event_id)
        return found and found[0].task_ids and await ask.rows.tasks(found[0].task_ids)

    [row] = await wait_until("it is queued", queued)
    assert (row.place.queue, row.place.priority) == ("probe_queues", 2)
    call = cancel_call(ask.mesh.keys, ask.mesh.settings, row)
    assert (await lua.run(ask.redis, call)).answer == "done"
    assert await ask.redis.xlen(ask.mesh.keys.queue("probe_queues", 2)) == 0
    last = await ask.run("queues.usual", {"n": "last"}, priority=0)
    assert last.state == "succeeded"
    assert "usual never" not in lines()


async def test_a_workflow_of_an_urgent_delivery_stays_urgent(ask, lines):
    await ask.publish("queues.usual", {"n": "busy", "seconds": 0.5})
    await happens("the worker is busy", lambda: lines() == ["usual busy"])
    for n in range(5):
        await ask.publish("queues.usual", {"n": n, "seconds": 0.02})
    event_id = await ask.publish("queues.parted", {"n": 9}, priority=9)
    await ask.ended(event_id)

    assert lines()[1:3] == ["part 9", "part 9"]
    await happens("all have run", lambda: len(lines()) == 8)


async def test_a_worker_reads_the_queues_it_was_started_for(mesh, ask, lines):
    with MeshProcess("only-urgent", "tests.probe_queues", mesh.env, mesh.folder, ["-Q", "urgent"]) as worker:
        await ask.shows_life("probe_queues", worker.pid)
        await ask.publish("queues.usual", {"n": "long", "seconds": 1.0})
        await happens("the worker of all queues is busy", lambda: lines() == ["usual long"])
        await ask.publish("queues.usual", {"n": "behind"})
        task = await ask.run("queues.pressing", {"n": 1})

        assert task.state == "succeeded"
        assert (task.place.queue, task.queue) == ("probe_queues.urgent", "probe_queues.urgent")
        assert lines() == ["usual long", "pressing 1"]
    await happens("the rest has run", lambda: len(lines()) == 3)


def test_a_queue_that_the_service_does_not_have_is_said_at_the_start(mesh):
    process = MeshProcess("wrong-queue", "tests.probe_queues", mesh.env, mesh.folder, ["-Q", "urgnt"]).start()
    wait_until_sync("it has ended", lambda: not process.running)

    assert process.stop() == 2
    assert "probe_queues has no queue 'urgnt'; it has default, urgent" in process.log.read_text()
