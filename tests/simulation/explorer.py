"""Tries schedules of a scenario; a finding has a token that plays it again exactly."""

from __future__ import annotations

import gc
import warnings
from dataclasses import dataclass
from typing import Any

import detangle

from tests.simulation.scenarios import Scenario

OPTIONS: dict[str, Any] = {
    "patch_time": True,
    "database": False,
    "max_steps": 150_000,
    "fail_on_unobserved": False,
    "strategy": "random",
}


@dataclass(frozen=True)
class Finding:
    """Something was found: after how many schedules, what, and how to see it again."""

    schedules: int
    what: str
    again: str


@dataclass(frozen=True)
class Nothing:
    """Nothing was found."""

    schedules: int


def explore(name: str, scenario: Scenario, runs: int, seed: int, *, shrink: bool = True) -> Finding | Nothing:
    """Try `runs` schedules that follow from `seed`."""
    gc.disable()  # a collection runs finalizers in the middle of a schedule, at a moment that no seed knows
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            return _explore(name, scenario, runs, seed, shrink)
    finally:
        sweep()


def _explore(name: str, scenario: Scenario, runs: int, seed: int, shrink: bool) -> Finding | Nothing:
    try:
        stats = detangle.explore(scenario, runs=runs, seed=seed, shrink=shrink, **OPTIONS)
    except detangle.BugFound as bug:
        report = bug.report
        again = f"make simulate ARGS='--only \"{name}\" --replay {report.token}'"
        return Finding(report.runs, str(report.failure.headline()), again)
    return Nothing(stats.runs)


def sweep() -> None:
    """Collect what schedules left. Connections of killed processes are nobody's to close, and say so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.enable()


def replay(scenario: Scenario, token: str) -> str:
    """Play one schedule again; return what came of it, with its trace."""
    gc.disable()
    try:
        detangle.replay(
            scenario, token, **{k: v for k, v in OPTIONS.items() if k not in {"database", "strategy"}}
        )
    except detangle.BugFound as bug:
        return str(bug)
    finally:
        sweep()
    return "nothing was found"
