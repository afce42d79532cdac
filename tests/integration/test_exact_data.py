"""Data on its way through hand-off, worker, handler and ledger: what comes out is what went in."""

from __future__ import annotations

import pytest

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
DEEP: list = []
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
