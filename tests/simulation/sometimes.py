"""States that are worth reaching: a run of many schedules in which one was never reached proves too little."""

from __future__ import annotations

from collections import Counter

from antithesis.assertions import sometimes as tell_platform

reached: Counter[str] = Counter()
CATALOGUE: set[str] = set()


def declare(*names: str) -> None:
    """Name states that have to be reached at least once in a run."""
    CATALOGUE.update(names)


def sometimes(name: str, condition: bool = True) -> None:
    """Note that a declared state was reached."""
    assert name in CATALOGUE, f"{name!r} is not declared"
    if condition:
        reached[name] += 1
        tell_platform(True, name, {})


def never_reached(found: Counter[str]) -> list[str]:
    """Return the declared states that no schedule of a run reached."""
    return sorted(CATALOGUE - set(found))
