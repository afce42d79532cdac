"""Data on its way through hand-off, worker, handler and ledger: what comes out is what went in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.probe.record import runs

SERVICES = ["tests.probe", "tests.probe_sync"]
NASTY = {
    "looks like a date": {"__type__": "datetime", "__value__": "no date"},
    "looks like bytes": [
        {"__type__": "base64", "__value__": "AAAA"},
        {"__type__": "no type", "__value__": 1},
    ],
    "long": [2**64, -(2**63) - 1, 10**40, -(10**40)],
    "numbers": [0.1, 1e308, 5e-324, 9007199254740993],
    "text": ["\u0000", "\U0001f600", "e\u0301", ""],
    "": {" ": {}, "a.b": [], "none": None},
}
DEEP: list[Any] = []
for _ in range(55):
    DEEP = [DEEP]
WIDE = {f"name {n}": [n] * 3 for n in range(3_000)}


@pytest.mark.parametrize("event_type", ["probe.echo", "sync.echo", "sync.echo_part"])
@pytest.mark.parametrize("data", [NASTY, DEEP, WIDE], ids=["nasty", "deep", "wide"])
async def test_a_handler_gets_and_returns_it_exactly(ask, event_type, data):
    task = await ask.run(event_type, data)

    assert (task.state, task.result) == ("succeeded", data)


@pytest.mark.parametrize("event_type", ["probe.echo", "sync.echo", "sync.echo_part"])
async def test_the_sign_of_a_zero_stays(ask, event_type):
    task = await ask.run(event_type, [-0.0, 0.0])

    assert repr(task.result) == "[-0.0, 0.0]"


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        ({"bytes": 1_048_577}, "ResultTooLarge", "1,048,579 bytes where at most 1,048,576 are allowed"),
        ({"lists": 206_000}, "ResultTooLarge", "more than 400,000 values"),
        ({"events": 1_001}, "EventTooLarge", "at most 1,000 events"),
    ],
)
async def test_a_result_that_would_take_its_readers_time_is_refused_once_and_for_all(ask, data, kind, words):
    event_id = await ask.publish("probe.large", data)
    [task] = await ask.ended(event_id, 40)

    assert (task.state, task.error["kind"]) == ("failed", kind)
    assert words in task.error["reason"]
    assert kind != "ResultTooLarge" or runs(ask.mesh.record)[f"large {event_id}"] == 1
    assert (await ask.letters.get(task.id)).kind == kind


async def test_a_result_of_a_megabyte_is_told_as_it_is_and_a_word_about_progress_is_cut(ask):
    task = await ask.run("probe.large", {"bytes": 1_048_570, "words": 3_000_000, "events": 100})

    assert (task.state, task.result, len(task.events)) == ("succeeded", "x" * 1_048_570, 100)
    assert task.progress["text"].startswith("half \\udce4 xxx")
    assert len(task.progress["text"]) < 1_010


@pytest.mark.parametrize(
    ("what", "kind"), [("nan", "TypeError"), ("deep", "TypeError"), ("large", "ResultTooLarge")]
)
async def test_a_workflow_whose_result_cannot_be_told_ends_with_the_reason(ask, what, kind):
    task = await ask.run("sync.untold_part", {"what": what})

    assert (task.state, task.error["kind"]) == ("failed", kind)
