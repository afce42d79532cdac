"""Some schedules of every scenario, in the ordinary suite; `make simulate` tries thousands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from streammesh import lua

from tests.simulation.explorer import Nothing, explore
from tests.simulation.mutants import MUTANTS, _with_holes
from tests.simulation.portfolio import PORTFOLIO

SEED = 20261127
RUNS = {"two dispatchers": 120, "publishing again": 80, "one client resuming": 50, "two beats": 30}


@pytest.mark.parametrize("entry", PORTFOLIO, ids=lambda entry: entry.name)
def test_what_is_promised_holds_in_many_schedules(entry):
    found = explore(entry.name, entry.scenario(), RUNS.get(entry.name, 8), SEED, shrink=False)
    assert isinstance(found, Nothing), f"{found.what}\n{found.again}"


def test_the_hand_off_without_its_gate_is_found():
    gate = MUTANTS[0]
    with gate.alive():
        found = explore(gate.name, gate.scenario, 100, SEED, shrink=False)
    assert not isinstance(found, Nothing)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_control_still_fits_the_scripts(mutant):
    for name, holes in mutant.holes.items():
        assert _with_holes(lua.script(name), holes).text != lua.script(name).text


def test_a_schedule_is_the_same_in_every_process():
    code = (
        "from tests.simulation.explorer import explore, OPTIONS\n"
        "import detangle, gc; gc.disable()\n"
        "from tests.simulation.small import two_dispatchers\n"
        "print(detangle.explore(two_dispatchers(), runs=4, seed=7, **OPTIONS).total_steps)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "0"}
    steps = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
        ).stdout
        for _ in range(2)
    }
    assert len(steps) == 1
