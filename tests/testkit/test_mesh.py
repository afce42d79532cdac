"""The fixture `mesh`: a real server, the real dispatcher, real handlers, and time that can be skipped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from streammesh import Context, Reject, Service
from streammesh.testing import Mesh


class Order(BaseModel):
    order_id: int


class Pool:
    def __init__(self) -> None:
        self.is_open, self.used = True, 0


class Client:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool


service = Service("shop_worker")
seen: list[Any] = []


@service.resource
async def pool() -> AsyncIterator[Pool]:
    made = Pool()
    seen.append(made)
    yield made
    made.is_open = False


@service.resource
def client(pool: Pool) -> Iterator[Client]:
    yield Client(pool)


@service.before
async def note_tenant(ctx: Context) -> None:
    seen.append(("before", ctx.event.type))


@service.after
def note_result(ctx: Context, result: Any) -> None:
    seen.append(("after", result))


@service.on_failure
def note_error(ctx: Context, error: BaseException) -> None:
    seen.append(("failed", str(error)))


@service.on("order.placed")
async def confirm(order: Order, pool: Pool, ctx: Context) -> dict[str, int]:
    pool.used += 1
    ctx.publish("order.confirmed", {"order_id": order.order_id})
    return {"confirmed": order.order_id}


@service.on("order.counted")
def count(client: Client, data: dict[str, Any]) -> int:
    client.pool.used += data["by"]
    return client.pool.used


@service.on("order.shaky", retries=3, backoff="1h")
async def shaky(data: Any, ctx: Context) -> int:
    if ctx.attempt < 3:
        raise RuntimeError("not yet")
    return ctx.attempt


@service.on("order.bad")
async def bad(data: Any) -> None:
    raise Reject("never right")


@service.on("order.slow")
async def slow(data: Any, ctx: Context) -> int:
    seen.append(("attempt", ctx.attempt))
    if ctx.attempt == 1:
        await asyncio.sleep(60)
    return ctx.attempt


@pytest.fixture(autouse=True)
def forgotten() -> None:
    seen.clear()


async def test_a_handler_runs_for_real_and_its_result_and_events_are_told(mesh: Mesh) -> None:
    mesh.run(service)
    event = await mesh.publish("order.placed", {"order_id": 7})
    outcome = await mesh.outcome(event)
    assert outcome.ok and outcome.result == {"confirmed": 7}
    assert [(one.type, one.data) for one in outcome.published] == [("order.confirmed", {"order_id": 7})]
    assert ("before", "order.placed") in seen and ("after", {"confirmed": 7}) in seen


def test_a_plain_test_waits_with_get(mesh: Mesh) -> None:
    mesh.run(service)
    assert mesh.outcome(mesh.publish("order.counted", {"by": 2}).get()).get().result == 2


def test_a_resource_is_made_once_and_closed_in_the_end(mesh_settings: Any, mesh_server: Any) -> None:
    with Mesh(mesh_settings, mesh_server) as mesh:
        mesh.run(service)
        events = [mesh.publish("order.placed", {"order_id": n}) for n in range(20)]
        for event in events:
            mesh.outcome(event.get()).get()
        [made] = [one for one in seen if isinstance(one, Pool)]
        assert made.used == 20 and made.is_open
    assert not made.is_open


async def test_a_quiet_period_is_skipped_and_the_last_of_it_runs(mesh: Mesh) -> None:
    saved: list[int] = []
    editor = Service("editor")

    @editor.on("doc.changed", key="data.doc", debounce="30s", max_wait="5m")
    async def save(data: dict[str, Any]) -> int:
        saved.append(data["revision"])
        return int(data["revision"])

    mesh.run(editor)
    began = time.monotonic()
    first, second, last = [
        await mesh.publish("doc.changed", {"doc": 7, "revision": revision}) for revision in (1, 2, 3)
    ]
    ran = await mesh.outcome(last)
    assert (ran.result, saved) == (3, [3])
    for one in (first, second):
        folded = await mesh.outcome(one)
        assert (folded.task.state, folded.task.result) == ("folded", {"run": ran.task.id})
    assert time.monotonic() - began < 10


async def test_waits_between_attempts_are_skipped(mesh: Mesh) -> None:
    mesh.run(service)
    began = time.monotonic()
    assert (await mesh.outcome(await mesh.publish("order.shaky"))).result == 3
    assert time.monotonic() - began < 5  # of at least an hour
    assert [one for one in seen if one[0] == "failed"] == [("failed", "not yet")] * 2


async def test_what_is_rejected_has_its_reason(mesh: Mesh) -> None:
    mesh.run(service)
    outcome = await mesh.outcome(await mesh.publish("order.bad"))
    assert not outcome.ok and outcome.error and outcome.error["reason"] == "never right"
    with pytest.raises(AssertionError, match="never right"):
        _ = outcome.result


async def test_a_payload_that_does_not_fit_names_the_field_and_the_event(mesh: Mesh) -> None:
    mesh.run(service)
    event = await mesh.publish("order.placed", {"order_id": "seven"})
    error = (await mesh.outcome(event)).error
    assert (
        error is not None and "/order_id" in error["reason"] and f"order.placed {event.id}" in error["reason"]
    )


async def test_an_event_that_nobody_wants_has_no_tasks(mesh: Mesh) -> None:
    mesh.run(service)
    assert (await mesh.outcome(await mesh.publish("nobody.cares"))).tasks == ()


async def test_a_worker_that_crashes_begins_again(mesh: Mesh) -> None:
    mesh.run(service)
    event = await mesh.publish("order.slow")
    while ("attempt", 1) not in seen:
        await asyncio.sleep(0.01)
    assert await mesh.crash(service) == 1
    assert (await mesh.outcome(event)).result == 2


async def test_what_is_published_while_redis_is_away_is_refused_or_done(mesh: Mesh) -> None:
    mesh.run(service)
    with mesh.redis_away():
        waits = mesh.publish("order.placed", {"order_id": 1})
    assert (await mesh.outcome(await waits)).ok


async def test_an_event_set_for_later_and_a_schedule_come_when_time_is_skipped(
    mesh: Mesh, tmp_path: Any
) -> None:
    clock = Service("clock_worker")

    @clock.on("report.due")
    async def report(data: Any) -> str:
        seen.append("ticked")
        return "made"

    mesh.run(clock)
    (tmp_path / "schedules.toml").write_text(
        '[schedules.nightly]\ncron = "0 3 * * *"\nevent = { type = "report.due" }\n'
    )
    assert await mesh.schedules(tmp_path / "schedules.toml") == 1
    await mesh.skip("1d")
    while "ticked" not in seen:
        await asyncio.sleep(0.01)


async def test_a_test_is_quick_after_the_first(mesh: Mesh) -> None:
    began = time.monotonic()
    mesh.run(service)
    await mesh.outcome(await mesh.publish("order.placed", {"order_id": 7}))
    assert time.monotonic() - began < 0.5
