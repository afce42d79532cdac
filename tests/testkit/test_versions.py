"""Versions of a durable handler side by side: runs under way keep theirs, and wait visibly for a worker that has it."""

from __future__ import annotations

from typing import Any

import pytest
from streammesh import Context, Service
from streammesh.durable.records import told_steps
from streammesh.subscriptions.declaration import InvalidHandler
from streammesh.testing import Mesh
from streammesh.testing.conditions import wait_until

made: list[str] = []


def charge(by: str) -> str:
    made.append(by)
    return by


async def first(data: Any, ctx: Context) -> list[str]:
    charged = await ctx.step("charge", charge, "v1")
    await ctx.sleep("1d")
    return ["v1", charged]


async def second(data: Any, ctx: Context) -> list[str]:
    charged = await ctx.step("take", charge, "v2")
    await ctx.sleep("1d")
    return ["v2", charged]


def deployed(*versions: int) -> Service:
    service = Service("shop_worker")
    for version in versions:
        on = service.on("order.placed", name="fulfil", version=version)
        on(first if version == 1 else second)
    return service


def deploy(mesh: Mesh, *versions: int) -> None:
    """In place of what runs."""
    while mesh._workers:
        mesh._ask(mesh._workers.pop().stop()).get()
    mesh.run(deployed(*versions))


async def the_task(mesh: Mesh, event: Any) -> Any:
    row = await mesh._rows.event(event.id, event.source)
    return (await mesh._rows.tasks(row.task_ids))[0] if row and row.task_ids else None


def waits(mesh: Mesh, event: Any, name: str, since: int = 0) -> Any:
    """The task of the event, when it waits for this, after an attempt beyond `since`."""

    async def waiting() -> Any:
        async def there() -> Any:
            task = await the_task(mesh, event)
            is_there = task and task.state == "waiting" and task.attempt > since
            told = told_steps(task.durable)[1] if is_there else None
            return (task, told) if told and told["name"].startswith(name) else None

        return await wait_until(f"it waits for {name}", there, seconds=10)

    return mesh._ask(waiting()).get()


def test_runs_under_way_keep_their_version_and_new_ones_begin_with_the_newest(mesh: Mesh) -> None:
    made.clear()
    deploy(mesh, 1)
    before = mesh.publish("order.placed", {}).get()
    waits(mesh, before, "sleep")
    deploy(mesh, 2, 1)
    after = mesh.publish("order.placed", {}).get()
    waits(mesh, after, "sleep")
    mesh.skip("2d").get()

    assert [mesh.outcome(one).get().result for one in (before, after)] == [["v1", "v1"], ["v2", "v2"]]
    assert made == ["v1", "v2"]


def test_a_run_whose_version_is_not_deployed_waits_visibly_and_goes_on_when_it_is(mesh: Mesh) -> None:
    made.clear()
    deploy(mesh, 1)
    event = mesh.publish("order.placed", {}).get()
    waits(mesh, event, "sleep")
    deploy(mesh, 2)
    mesh.skip("2d").get()
    task, told = waits(mesh, event, "version")
    assert (told["name"], told["kind"], told["version"]) == ("version:1", "version", 1)
    for _ in range(3):  # offered again, it waits again, and no failure is counted
        mesh.skip("31s").get()
        task, told = waits(mesh, event, "version", since=task.attempt)
    assert (task.state, made) == ("waiting", ["v1"])

    deploy(mesh, 1)  # as in a deploy that is taken back
    mesh.skip("31s").get()
    assert mesh.outcome(event, seconds=60).get().result == ["v1", "v1"]
    assert made == ["v1"]


@pytest.mark.parametrize(
    "second_options, says",
    [
        ({"version": 1}, "two handlers have the name"),
        ({"version": 2, "event_type": "order.changed"}, "to the same type"),
    ],
)
def test_versions_that_cannot_be_are_refused(second_options: dict[str, Any], says: str) -> None:
    service = deployed(1)
    with pytest.raises(InvalidHandler, match=says):
        service.on(second_options.pop("event_type", "order.placed"), name="fulfil", **second_options)(second)


def test_a_def_handler_is_no_version_of_an_async_one() -> None:
    def plain(data: Any, ctx: Context) -> None: ...

    with pytest.raises(InvalidHandler, match="make both alike"):
        deployed(1).on("order.placed", name="fulfil", version=2)(plain)


def test_the_manifest_names_the_newest_version_whatever_the_order() -> None:
    for order in ((1, 2), (2, 1)):
        [subscription] = deployed(*order).manifest().subscriptions
        assert (subscription.task, subscription.version) == ("shop_worker.fulfil", 2)
