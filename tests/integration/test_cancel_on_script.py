"""What the scripts do of `cancel_on`: whichever of task and cancelling event is handed over first, their times decide."""

from __future__ import annotations

from dataclasses import replace

import pytest
from streammesh import lua
from streammesh.cancellation.canceller import Canceller, canceller_subscription
from streammesh.dead_letters import DeadLetters, Replaying
from streammesh.events import envelope
from streammesh.events.publisher import Publisher
from streammesh.flow.limits import Flow
from streammesh.keys import WORKERS
from streammesh.subscriptions.manifest import Manifest, Subscription, plan
from streammesh.subscriptions.registry import register_call
from streammesh.tasks.cancel_marks import CancelWork
from streammesh.tasks.handoff import Encoded, Handover
from streammesh.tasks.ledger import Verdict

from services.dispatcher.canceller import EventCanceller
from tests.harness.moves import SERVICE, Moves

BUILD = Subscription(
    SERVICE, "billing.build", "order.placed", cancel_on={"order.scrapped": ("data.of", "data.order")}
)
CANCELLER = canceller_subscription(BUILD, "order.scrapped")


class Bench(Moves):
    """A dispatcher that hands events over in whatever order is wanted."""

    build = BUILD

    async def join(self) -> None:
        manifest = Manifest(SERVICE, subscriptions=(self.build, CANCELLER))
        await lua.run(self.redis, register_call(self.keys, manifest))
        await self.redis.xgroup_create(self.keys.queue(SERVICE), WORKERS, "0", mkstream=True)

    async def publish(self, *events):
        """Publish (type, data) and read them; answers what can be handed over."""
        publisher = Publisher(self.redis, self.keys, self.settings, "tests")
        for event_type, data in events:
            await publisher.publish(event_type, data)
        [[_, read]] = await self.redis.xreadgroup(SERVICE, "test", {self.keys.events("order"): ">"})
        return [self._handover(position.decode(), fields[b"e"]) for position, fields in read]

    def _handover(self, position, raw):
        event = envelope.from_json(raw)
        body = b"[[%b],{},{}]" % raw
        encoded = [
            Encoded(one, self.keys.queue(SERVICE), (b'{"headers":{}}',), body)
            for one in plan(event, [self.build, CANCELLER])
        ]
        return Handover(position, event, len(encoded), encoded)

    async def cancel(self):
        await EventCanceller(Canceller(self.keys, self.settings), self.redis, self.keys).run_once()

    async def index(self):
        return await self.redis.zrange(self.keys.cancellable(BUILD.task), 0, -1)


@pytest.fixture
async def bench(mesh_redis, mesh_keys, mesh_settings):
    found = Bench(mesh_redis, mesh_keys, mesh_settings)
    await found.join()
    return found


async def test_a_task_that_was_published_before_the_event_and_is_handed_over_after_it_never_starts(bench):
    placed, scrapped = await bench.publish(("order.placed", {"order": 7}), ("order.scrapped", {"of": 7}))
    await bench.hand(scrapped)
    await bench.hand(placed)
    await bench.deliver()
    moved = await bench.moved(placed)
    assert (await bench.claim(moved)).verdict is Verdict.CANCELLED  # even where no dispatcher comes to it

    await bench.cancel()
    row = await bench.row(moved)
    assert row.state == "cancelled"
    assert row.error["by"] == {"id": scrapped.event.id, "source": "tests", "type": "order.scrapped"}
    assert not await bench.index() and not await bench.redis.exists(bench.keys.cancelling())


async def test_an_earlier_event_cancels_no_later_task_and_other_values_none(bench):
    scrapped, placed, again, other = await bench.publish(
        ("order.scrapped", {"of": 7}),
        ("order.placed", {"order": 7}),
        ("order.scrapped", {"of": "7"}),
        ("order.placed", {"order": [7]}),
    )
    await bench.hand(placed, scrapped, again, other)
    await bench.cancel()
    assert (await bench.row(await bench.moved(placed))).state == "queued"
    assert len(await bench.index()) == 1  # what has no plain value at the path is not there


async def test_of_a_thousand_tasks_those_with_the_value_are_cancelled_and_leave_the_index(bench):
    handed = await bench.publish(*(("order.placed", {"order": n % 2}) for n in range(1_000)))
    [scrapped] = await bench.publish(("order.scrapped", {"of": 1.0}))
    await bench.hand(*handed)
    await bench.hand(scrapped)
    await bench.cancel()
    rows = await bench.rows.tasks([one.deliveries[0].delivery.task_id for one in handed])
    assert [row.state for row in rows] == ["queued", "cancelled"] * 500
    assert len(await bench.index()) == 500
    work = CancelWork(BUILD.task, (await bench.index())[0][:32].decode())
    assert not await bench.redis.exists(bench.keys.canceller(*work))


async def test_a_running_task_is_asked_to_stop_and_ends_with_the_event_whoever_ends_it(bench):
    placed, scrapped = await bench.publish(("order.placed", {"order": 7}), ("order.scrapped", {"of": 7}))
    await bench.hand(placed, scrapped)
    await bench.deliver()
    moved = await bench.moved(placed)
    attempt = (await bench.claim(moved)).attempt
    await bench.cancel()
    row = await bench.row(moved)
    assert (row.state, row.wanted_cancelled) == ("started", True)
    assert await bench.fail(moved, attempt) == "done"
    row = await bench.row(moved)
    assert (row.state, row.error["by"]["id"]) == ("cancelled", scrapped.event.id)
    assert not await bench.index()


@pytest.mark.parametrize("row_is_there", [True, False])
async def test_a_dead_letter_that_is_replayed_may_be_cancelled_again(bench, row_is_there):
    [placed] = await bench.publish(("order.placed", {"order": 7}))
    await bench.hand(placed)
    await bench.deliver()
    moved = await bench.moved(placed)
    assert await bench.fail(moved, (await bench.claim(moved)).attempt) == "done"
    assert not await bench.index()
    if not row_is_there:
        await bench.redis.delete(bench.keys.task(moved.ref.task_id))
    letter = await DeadLetters(bench.redis, bench.keys).get(moved.ref.task_id)
    assert (await Replaying(bench.redis, bench.keys, bench.settings).replay([letter])).replayed == 1

    [scrapped] = await bench.publish(("order.scrapped", {"of": 7}))
    await bench.hand(scrapped)
    await bench.cancel()
    assert (await bench.row(moved)).state == "cancelled"


async def test_garbage_in_each_key_holds_up_no_other_value(bench):
    placed, scrapped = await bench.publish(("order.placed", {"order": 7}), ("order.scrapped", {"of": 7}))
    await bench.redis.zadd(bench.keys.cancelling(), {"garbage": 1, b"\xff\t" + b"0" * 32: 1})
    await bench.redis.set(bench.keys.canceller(BUILD.task, "0" * 32), "of another type")
    await bench.redis.zadd(bench.keys.cancelling(), {f"{BUILD.task}\t{'0' * 32}": 1})
    await bench.hand(placed, scrapped)
    digest = (await bench.index())[0][:32].decode()
    await bench.redis.zadd(
        bench.keys.cancellable(BUILD.task), {f"{digest} {'0' * 16} nobody": 0, f"{digest} ": 0, "x": 0}
    )
    await bench.cancel()
    assert (await bench.row(await bench.moved(placed))).state == "cancelled"
    assert await bench.index() == [b"x"] and not await bench.redis.exists(bench.keys.cancelling())


async def test_what_waits_in_line_is_cancelled_there_and_what_runs_gives_its_place_to_who_is_left(bench):
    bench.build = replace(BUILD, flow=Flow(concurrency=1))
    handed = await bench.publish(*(("order.placed", {"order": n}) for n in (7, 7, 8, 7)))
    [scrapped] = await bench.publish(("order.scrapped", {"of": 7}))
    *first, late = handed
    await bench.hand(*first)
    await bench.hand(scrapped)
    await bench.cancel()
    await bench.hand(late)  # was published before the event, and comes to stand in line after it
    await bench.cancel()

    rows = await bench.rows.tasks([one.deliveries[0].delivery.task_id for one in handed])
    assert [row.state for row in rows] == ["cancelled", "cancelled", "queued", "cancelled"]
    assert {row.error["by"]["id"] for row in rows if row.error} == {scrapped.event.id}
    keys = bench.keys
    assert await bench.redis.zcard(keys.flow_places(BUILD.task)) == 1
    assert not await bench.redis.exists(keys.flow_line(BUILD.task), keys.flow_ready(BUILD.task))
    assert len(await bench.index()) == 1
