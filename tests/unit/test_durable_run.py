"""One attempt of a durable handler: what its code names, and what the records hold that it does not expect."""

from __future__ import annotations

import asyncio

import pytest
from streammesh.durable.calls import DurableCalls, StepAnswer
from streammesh.durable.drive import async_driver, sync_driver
from streammesh.durable.records import MOST_STEPS, StepRecord
from streammesh.durable.run import Run
from streammesh.errors import Fail
from streammesh.events.envelope import build
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.suspension import Suspended
from streammesh.tasks.task import QueuePlace, TaskRef

WAITS = Subscription("shop", "shop.wait", "order.placed", waits={"order.paid": ("data.id",)})
EVENT = build("tests", "order.placed", {})
REF = TaskRef("5b0e3c56-7d0b-5f5e-8a53-0f5d8b1f0a11", "shop.wait", "shop", EVENT)


def run(row=None, ask=None):
    calls = DurableCalls(Keys("m"), MeshSettings(redis_url="redis://127.0.0.1:1/0"))
    place = QueuePlace("shop", entry="1-0")
    return Run(calls, sync_driver(ask or _nothing), WAITS, REF, place, 1, row or {})


def _nothing(call):
    raise AssertionError("no call is to be made")


def half() -> float:
    return float("nan")


def test_a_signal_cannot_be_the_result_of_a_step():
    with pytest.raises(Fail, match="of signals"):
        run().step("signal:paid", half, (), {}, 0)


@pytest.mark.parametrize(
    "record, ask",
    [
        (b"1 signal true", lambda one: one.step("a", half, (), {}, 0)),
        (b"1 step true", lambda one: one.sleep(1, "a")),
        (b"1 signal true", lambda one: one.wait_for("order.paid", {"data.id": 1}, None, "a")),
    ],
    ids=["step", "sleep", "event"],
)
def test_a_record_of_another_kind_is_no_answer(record, ask):
    with pytest.raises(Fail, match="its code has changed"):
        ask(run({b"step:a": record}))


def test_a_signal_that_cannot_be_read_is_given_up_and_not_tried_again():
    with pytest.raises(Fail, match="cannot be read"):
        run({b"step:signal:a": b"1 signal {"}).wait_for_signal("a", None, {})


@pytest.mark.parametrize("value", [float("nan"), "\ud800"])
def test_what_no_event_can_hold_cannot_be_waited_for(value):
    with pytest.raises(Fail, match="no event can hold"):
        run().wait_for("order.paid", {"data.id": value}, None, None)


@pytest.mark.parametrize(
    "name", ["", "a\nb", "a\x85b", "\ud800", "x" * 129, None, 7, "signal:a", "version:1", b"a"]
)
def test_a_name_that_cannot_be_is_refused_before_the_function_is_called(name):
    with pytest.raises(Fail, match="a step"):
        run().step(name, pytest.fail, (), {}, 0)


async def test_two_steps_of_one_name_at_a_time_are_refused_and_others_run_beside_each_other():
    kept: dict[str, bytes] = {}

    async def ask(call):
        await asyncio.sleep(0)
        name = call.args[call.args.index("step") - 1]
        kept[name] = call.args[call.args.index("step") + 1]
        return StepAnswer("done", StepRecord(1, "step", kept[name]))

    async def half(n):
        await asyncio.sleep(0.01 / (n + 1))
        return n

    calls = DurableCalls(Keys("m"), MeshSettings(redis_url="redis://127.0.0.1:1/0"))
    place = QueuePlace("shop", entry="1-0")
    one = Run(calls, async_driver(ask), WAITS, REF, place, 1, {}, is_async=True)
    assert await asyncio.gather(*(one.step(f"s{n}", half, (n,), {}, 0) for n in range(5))) == [0, 1, 2, 3, 4]
    assert len(kept) == 5
    first = one.step("same", half, (1,), {}, 0)
    with pytest.raises(Fail, match="two steps are named 'same'"):
        one.step("same", half, (2,), {}, 0)
    assert await first == 1


@pytest.mark.parametrize("began", [b"0", b"-1", b"x", b"", b"9" * 40, b"1.0", b"\xff"])
def test_a_run_that_began_with_no_version_is_given_up_and_not_offered_for_ever(began):
    with pytest.raises(Fail, match="which is none"):
        run({b"durable": began})


@pytest.mark.parametrize("about", [b"{}", b'{"times":"x"}', b'{"times":1e9}', b'{"times":-1}', b"{", b"\xff"])
def test_garbage_in_what_a_run_waits_for_does_not_keep_it_from_being_offered_again(about):
    with pytest.raises(Suspended):
        run({b"durable": b"7", b"wait:version:7": b"1 " + about})


def test_what_could_not_be_read_back_is_not_recorded():
    with pytest.raises(Fail, match="does not fit"):
        run().step("a", half, (), {}, 0)


def test_a_name_that_the_mesh_gave_is_used_once_too():
    one = run({b"step:sleep:1": b"1 timeout null"})
    one.sleep(1, "sleep:1")
    with pytest.raises(Fail, match="two steps are named"):
        one.sleep(1, None)


def test_waits_count_as_steps_do_and_events_as_results():
    ended = {b"step:sleep:%d" % n: b"1 timeout null" for n in range(1, MOST_STEPS + 1)}
    one = run(ended)
    for _ in range(MOST_STEPS):
        one.sleep(1, None)
    with pytest.raises(Fail, match="at most 1,000 steps"):
        one.sleep(1, None)

    large = {b"step:e%d" % n: b'1 event "' + b"x" * 65_000 + b'"' for n in range(65)}
    with pytest.raises(Fail, match="bytes of results"):
        run(large).wait_for("order.paid", {"data.id": 1}, None, None)
    with pytest.raises(Suspended):
        run().wait_for("order.paid", {"data.id": 1}, None, None)
