"""Some schedules of every scenario, in the ordinary suite; `make simulate` tries thousands."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from streammesh import lua

from tests.simulation import mutants, table
from tests.simulation.departures import routed
from tests.simulation.exhaustive import Part, enumerate_all
from tests.simulation.explorer import Met, explore, parse, replay
from tests.simulation.faults import FORGETS, KINDS
from tests.simulation.mutants import MUTANTS, _with_holes, tokens
from tests.simulation.portfolio import PORTFOLIO
from tests.simulation.world import World

SEED = 20261127
FOUND = tokens()  # what was found once and mended: control -> token
RUNS = {
    "two dispatchers": 40,
    "publishing again": 80,
    "one client resuming": 20,
    "two beats": 30,
    "api keys": 25,
    "changing schedules": 15,
    "url services": 10,
    "batches": 2,
    "two shards": 2,
}
OTHERS = 3  # 300 and some in all


@pytest.mark.parametrize("entry", PORTFOLIO, ids=lambda entry: entry.name)
def test_what_is_promised_holds_in_many_schedules(entry: Any) -> None:
    met = explore(entry.name, entry.scenario(), RUNS.get(entry.name, OTHERS), SEED, shrink=False)
    assert not met.findings, f"{met.findings[0].what}\n--replay {met.findings[0].token}"


def test_the_hand_off_without_its_gate_is_found_and_its_token_shows_it_again() -> None:
    gate = MUTANTS[0]
    with gate.alive():
        met = explore(gate.name, gate.scenario, 100, SEED, shrink=False)
        [finding] = met.findings
        _, aims, token = parse(finding.token)
        found = replay(gate.scenario, aims, token)
    assert found is not None
    assert found[0] == finding.what


def test_an_aim_is_met_in_the_schedule_that_has_it() -> None:
    entry = next(entry for entry in PORTFOLIO if entry.name == "publishing again")
    known = explore(entry.name, entry.scenario(), 1, SEED)
    known.struck.update((script, kind) for script in table.reachable() for kind in KINDS)
    del known.struck["publish_once", "LOADING"]

    met = explore(entry.name, entry.scenario(), 3, SEED, known)

    assert met.struck["publish_once", "LOADING"]
    assert World.aims == ()


@pytest.mark.parametrize("control", FOUND)
def test_what_was_found_and_mended_is_found_without_its_mend_and_not_with_it(control: str) -> None:
    mutant = mutants.BY_NAME[control]
    _, aims, token = parse(FOUND[control])
    assert replay(mutant.scenario, aims, token) is None
    with mutant.alive():
        found = replay(mutant.scenario, aims, token)
    if found is None:
        pytest.skip(
            "the product takes other steps since; `make simulate ARGS=--tokens` writes the token anew"
        )


def test_every_mend_has_a_token() -> None:
    assert set(FOUND) == {mutant.name for mutant in mutants.MENDED}


def test_full_queues_are_worked_off_after_the_server_forgot_too() -> None:
    known = Met(seen={"two routers": {"join_group"}})
    known.struck.update(("join_group", kind) for kind in KINDS if kind != FORGETS)

    met = explore("two routers", routed(budget=0, kinds=(FORGETS,)), 1, SEED, known, shrink=False)

    assert met.struck["join_group", FORGETS]
    assert not met.findings, f"{met.findings[0].what}\n--replay {met.findings[0].token}"


@pytest.mark.parametrize("name", ["2 dispatchers, 3 events", "2 Beats, 2 ticks"])
def test_a_share_of_all_single_deviations_does_no_harm(name: str) -> None:
    tried, found = enumerate_all(name, Part(3, 30))
    assert not found
    assert tried > 5


@pytest.mark.parametrize("control", mutants.CONTROLS)
def test_every_control_still_fits_the_scripts(control: str) -> None:
    for name, holes in mutants.BY_NAME[control].holes.items():
        assert _with_holes(lua.script(name), holes).text != lua.script(name).text


def test_a_schedule_is_the_same_in_every_process() -> None:
    code = (
        "from tests.simulation.explorer import OPTIONS\n"
        "import detangle, gc; gc.disable()\n"
        "from tests.simulation.small import two_dispatchers\n"
        "from tests.simulation.departures import leaving\n"
        "for scenario in two_dispatchers(), leaving():\n"
        "    print(detangle.explore(scenario, runs=2, seed=7, strategy='random', database=False, **OPTIONS).total_steps)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    playing = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env)
        for _ in range(2)
    ]
    steps = [process.communicate()[0] for process in playing]
    assert steps[0] == steps[1]
    assert [process.returncode for process in playing] == [0, 0]
