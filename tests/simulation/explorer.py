"""Tries schedules of a scenario; a finding has a token that plays it again exactly.

Each schedule may have an aim, a script and a kind of fault that are wanted together: pairs that were not met yet come
first, so that the table of scripts and faults fills. The aim is part of the token.
"""

from __future__ import annotations

import gc
import random
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import detangle

from tests.simulation import faults, sometimes
from tests.simulation.determinism import virtual_time
from tests.simulation.faults import KINDS, Aim
from tests.simulation.forgetting import Forgotten
from tests.simulation.scenarios import Scenario
from tests.simulation.tape import Tape
from tests.simulation.world import World

OPTIONS: dict[str, Any] = {"patch_time": True, "max_steps": 150_000, "fail_on_unobserved": False}
SEPARATOR = "~"
MOST_AIMS = 3


@dataclass(frozen=True)
class Finding:
    """Something was found: after how many schedules, what, and the token to see it again."""

    scenario: str
    schedules: int
    what: str
    token: str


@dataclass
class Met:
    """What a run of schedules met; runs are added up."""

    schedules: int = 0
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    seen: dict[str, set[str]] = field(
        default_factory=dict
    )  # scenario -> scripts that a fault could strike there
    reached: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Met) -> None:
        """Add another run."""
        self.schedules += other.schedules
        self.struck += other.struck
        for scenario, names in other.seen.items():
            self.seen.setdefault(scenario, set()).update(names)
        self.reached += other.reached
        self.findings += other.findings

    def wanted(self, scenario: str) -> list[Aim]:
        """Return the pairs that can be met in a scenario and never were, in order."""
        scripts = self.seen.get(scenario, set()) & set(faults.known_scripts())
        return [
            (script, kind)
            for script in sorted(scripts)
            for kind in KINDS
            if (script, kind) not in self.struck
        ]


def explore(
    name: str, scenario: Scenario, runs: int, seed: int, met: Met | None = None, *, shrink: bool = True
) -> Met:
    """Try `runs` schedules that follow from `seed`, until something is found. `met`: what is known already."""
    met, done = met or Met(), Met()
    known = Met()
    known.add(met)
    choose = random.Random(f"{name}:{seed}")
    with quietly():
        for number in range(runs):
            wanted = known.wanted(name)
            World.aims = tuple(choose.sample(wanted, min(MOST_AIMS, len(wanted))))
            faults.coverage.clear()
            faults.seen.clear()
            sometimes.reached.clear()
            finding = _try(name, scenario, f"{seed}:{number}", number + 1, shrink)
            one = Met(1, Counter(faults.coverage), {name: set(faults.seen)}, Counter(sometimes.reached))
            for total in (done, known):
                total.add(one)
            if finding is not None:
                done.findings.append(finding)
                break
            if number % 10 == 9:
                gc.collect()
    return done


def _try(name: str, scenario: Scenario, seed: str, number: int, shrink: bool) -> Finding | None:
    try:
        detangle.explore(
            to_its_end(scenario), runs=1, seed=random.Random(seed).getrandbits(48), shrink=shrink, strategy="random",
            database=False, **OPTIONS,
        )  # fmt: skip
    except detangle.BugFound as bug:
        report = bug.report
        aims = ",".join(f"{script}.{kind}" for script, kind in World.aims)
        token = SEPARATOR.join((name, aims, report.token)).replace(" ", "-")
        return Finding(name, number, str(report.failure.headline()), token)
    return None


def to_its_end(scenario: Scenario) -> Scenario:
    async def play() -> None:
        try:
            await scenario()
        except Forgotten:
            pass  # it was looked at, see forgetting.py
        if World.tape is not None:
            World.current.server.record_contents()

    return play


def record(scenario: Scenario, seed: str) -> Tape:
    """Return what a schedule asked the server, and was answered."""
    World.tape = tape = Tape()
    World.aims = ()
    try:
        with quietly():
            if (found := _try("recorded", scenario, seed, 1, False)) is not None:
                raise AssertionError(found.what)
    finally:
        World.tape = None
    return tape


def parse(token: str) -> tuple[str, tuple[Aim, ...], str]:
    """Return the scenario's name, the aims and detangle's own token."""
    name, aims, rest = token.split(SEPARATOR)
    kinds = {known.replace(" ", "-"): known for known in KINDS}
    pairs = [aim.split(".") for aim in aims.split(",") if aim]
    return name.replace("-", " "), tuple((script, kinds[kind]) for script, kind in pairs), rest


def replay(scenario: Scenario, aims: tuple[Aim, ...], token: str) -> tuple[str, str] | None:
    """Play one schedule again; return what was found in one line, and with its trace."""
    World.aims = aims
    with quietly():
        try:
            detangle.replay(to_its_end(scenario), token, **OPTIONS)
        except detangle.BugFound as bug:
            # Text and no objects, which would keep the schedule's connections alive.
            return bug.report.failure.headline(), bug.report.render()
    return None


@contextmanager
def quietly() -> Iterator[None]:
    """Within: no garbage is collected but between schedules, where no seed would know of it; nobody complains of
    connections of killed processes, which are nobody's to close."""
    gc.disable()
    gc.collect()
    gc.freeze()  # what is imported is not looked through again
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            with virtual_time():
                yield
            gc.collect()
    finally:
        World.aims = ()
        gc.enable()
