"""The simulated server is held against real ones: recorded schedules are played to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.explorer import record
from tests.simulation.playback import CannotPlay, build_clock, differences, real_server, servers
from tests.simulation.portfolio import BY_NAME, recordable
from tests.simulation.tape import Tape

SCENARIOS = ("the whole mesh", "leaving", "changing schedules", "other broker", "removal", "trimming")


@pytest.fixture(scope="module")
def tapes() -> dict[str, Tape]:
    return {name: record(recordable(BY_NAME[name]), "recorded:1") for name in SCENARIOS}


@pytest.fixture(scope="module", params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program = servers().get(request.param)
    if program is None:
        pytest.skip(f"there is no {request.param} server on this machine")
    folder = tmp_path_factory.mktemp(request.param)
    try:
        clock = build_clock(folder)
    except CannotPlay as error:
        pytest.skip(str(error))
    with real_server(program, clock, folder) as running:
        yield running


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_real_server_answers_as_the_simulated_one(name: str, tapes: Any, server: Any) -> None:
    compared, found = differences(tapes[name], server)
    assert compared > 50
    assert not found, "\n".join(found[:5])


def test_an_answer_that_is_another_one_is_found(tapes: Any, server: Any) -> None:
    tape = tapes["changing schedules"]
    [step] = [step for step in tape.steps if step.command[0] == b"XRANGE" and step.answer][-1:]
    right, step.answer = step.answer, b"*0\r\n"
    try:
        assert differences(tape, server)[1]
    finally:
        step.answer = right
