"""Handlers that are given several events at once, run for real: who is in a batch, and how each of its events ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from streammesh import Context, Event, Failed, Reject, Service
from streammesh.testing import Mesh


class Row(BaseModel):
    table: str
    n: int


def rows(count: int, table: str = "t") -> list[dict[str, Any]]:
    return [{"table": table, "n": n} for n in range(count)]


async def publish(mesh: Mesh, data: list[dict[str, Any]]) -> list[Event]:
    return [await mesh.publish("row.added", one) for one in data]


async def ends(mesh: Mesh, events: list[Event]) -> list[Any]:
    """Each event's only task."""
    return [(await mesh.outcome(one, seconds=20)).task for one in events]


async def test_a_full_batch_starts_at_once_and_the_rest_after_its_time(mesh: Mesh) -> None:
    service, given = Service("loader"), list[list[int]]()

    @service.on("row.added", key="data.table", batch=4, linger="1h")
    async def load(added: list[Row], ctx: Context) -> int:
        given.append([one.n for one in added])
        ctx.publish("rows.loaded", {"count": len(added)})
        return len(added)

    mesh.run(service)
    events = await publish(mesh, rows(6))
    tasks = await ends(mesh, events)
    assert given == [[0, 1, 2, 3], [4, 5]]
    assert [task.state for task in tasks] == ["succeeded", *["folded"] * 3, "succeeded", "folded"]
    assert [task.result for task in tasks[:4]] == [4, *[{"run": tasks[0].id}] * 3]
    assert tasks[5].result == {"run": tasks[4].id}
    [told] = (await mesh.outcome(events[0])).published
    assert told.data == {"count": 4}


async def test_the_events_that_failed_are_tried_again_and_given_up_by_themselves(mesh: Mesh) -> None:
    service, given = Service("loader"), list[list[int]]()

    @service.on("row.added", batch=4, linger="1h", retries=1)
    def load(added: list[Row]) -> Any:
        given.append([one.n for one in added])
        wrong: dict[int, Exception | str] = {n: ValueError("odd") for n, one in enumerate(added) if one.n % 2}
        if any(one.n == 3 for one in added):
            wrong[[one.n for one in added].index(3)] = Reject("three")
        return Failed(wrong) if wrong else None

    mesh.run(service)
    tasks = await ends(mesh, await publish(mesh, rows(4)))
    assert given == [[0, 1, 2, 3], [1]]
    assert [(task.state.value, task.attempt) for task in tasks] == [
        ("succeeded", 1), ("failed", 2), ("folded", 1), ("failed", 1)
    ]  # fmt: skip
    assert [task.error and task.error["reason"] for task in tasks] == [None, "odd", None, "three"]


async def test_where_the_first_failed_another_one_is_the_run(mesh: Mesh) -> None:
    service = Service("loader")

    @service.on("row.added", batch=3, linger="1h", retries=3)
    async def load(added: list[Row], ctx: Context) -> None:
        if ctx.attempt == 1 and len(added) > 1:
            raise Failed({0: "not yet"})

    mesh.run(service)
    first, second, third = await ends(mesh, await publish(mesh, rows(3)))
    assert [one.state for one in (first, second, third)] == ["succeeded", "succeeded", "folded"]
    assert third.result == {"run": second.id} and first.attempt == 2


async def test_what_a_run_publishes_is_there_though_it_published_before_its_first_event_failed(
    mesh: Mesh,
) -> None:
    service, told = Service("loader"), asyncio.Queue[list[int]]()

    @service.on("row.added", batch=2, linger="50ms", retries=3, backoff=0.01)
    async def load(added: list[Row], ctx: Context) -> None:
        ctx.publish("rows.loaded", {"rows": [one.n for one in added]})
        if len(added) == 2:
            raise Failed({0: "not yet"})

    @service.on("rows.loaded")
    async def hear(data: dict[str, Any]) -> None:
        told.put_nowait(data["rows"])

    mesh.run(service)
    await publish(mesh, rows(2))
    async with asyncio.timeout(20):
        assert sorted([await told.get(), await told.get()]) == [[0], [0, 1]]


async def test_one_that_spoils_each_batch_is_found_and_the_others_succeed(mesh: Mesh) -> None:
    service, given = Service("loader"), list[list[int]]()

    @service.on("row.added", batch=4, linger="1h", retries=1)
    async def load(added: list[Row]) -> None:
        given.append([one.n for one in added])
        if any(one.n == 2 for one in added):
            raise RuntimeError("no")

    mesh.run(service)
    tasks = await ends(mesh, await publish(mesh, rows(4)))
    assert [task.state for task in tasks] == ["succeeded", "succeeded", "failed", "succeeded"]
    assert given[:2] == [[0, 1, 2, 3]] * 2 and sorted(given[2:]) == [[0], [1], [2], [3]]


async def test_a_payload_that_fits_no_row_stops_no_other(mesh: Mesh) -> None:
    service, given = Service("loader"), list[list[int]]()

    @service.on("row.added", batch=4, linger="1h")
    async def load(added: list[Row]) -> None:
        given.append([one.n for one in added])

    mesh.run(service)
    data = rows(4)
    data[0] = {"table": "t", "n": "many"}
    tasks = await ends(mesh, await publish(mesh, data))
    assert given == [[1, 2, 3]]
    assert [task.state for task in tasks] == ["failed", "succeeded", "folded", "folded"]
    assert "/n" in tasks[0].error["reason"]


async def test_a_worker_that_died_with_a_batch_leaves_it_to_the_next(mesh: Mesh) -> None:
    service, given = Service("loader"), list[list[int]]()

    @service.on("row.added", batch=3, linger="1h")
    async def load(events: list[Event], ctx: Context) -> None:
        given.append([one.data["n"] for one in events])
        if ctx.attempt == 1:
            await asyncio.sleep(60)

    mesh.run(service)
    events = await publish(mesh, rows(3))
    while not given:
        await asyncio.sleep(0.005)
    assert await mesh.crash(service) == 1
    tasks = await ends(mesh, events)
    assert given == [[0, 1, 2]] * 2
    assert [task.state for task in tasks] == ["succeeded", "folded", "folded"]
    assert tasks[0].attempt == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 5}, "batch= and linger= go together"),
        ({"linger": "1s"}, "batch= and linger= go together"),
        ({"batch": 1, "linger": "1s"}, "batch=1: should be a whole number from 2 to 1,000"),
        ({"batch": 5, "linger": "1s", "debounce": "1s"}, "leave out debounce="),
        ({"batch": 5, "linger": "1s", "order": True}, "leave out order="),
        ({"batch": 5, "linger": "1s", "version": 2}, "has no steps, waits or versions"),
        ({"batch": 5, "linger": "1s", "waits": {"a.b": "data.n"}}, "has no steps, waits or versions"),
        ({"batch": 5, "linger": "1s", "key": "data.tabel"}, "the payload has no 'tabel'"),
    ],
)
def test_batches_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    service = Service("loader")
    with pytest.raises(TypeError, match=words):

        @service.on("row.added", **options)
        async def load(added: list[Row]) -> None: ...


def test_a_handler_of_batches_takes_a_list() -> None:
    service = Service("loader")
    with pytest.raises(TypeError, match="annotate its first parameter, as `rows: list"):

        @service.on("row.added", batch=5, linger="1s")
        async def load(added: Row) -> None: ...

    with pytest.raises(TypeError, match="no steps"):

        @service.on("row.added", batch=5, linger="1s")
        async def steps(added: list[Row], ctx: Context) -> None:
            await ctx.step("one", print)
