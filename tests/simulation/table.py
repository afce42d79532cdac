"""The table of scripts and faults: which pairs were met, and which scripts the simulation cannot reach, and why."""

from __future__ import annotations

from tests.simulation.explorer import Met
from tests.simulation.faults import KINDS, known_scripts

WANTED = 0.95
UNREACHED = {  # script -> why
    "note_move": "of `reshard`, of a mesh that stands still; its own test kills the command at every eleventh of its commands"
}


def reachable() -> list[str]:
    """Return the scripts that the table has a row for."""
    return [name for name in known_scripts() if name not in UNREACHED]


def share(met: Met) -> float:
    """Return the share of pairs that were met."""
    scripts = reachable()
    return sum(met.struck[script, kind] > 0 for script in scripts for kind in KINDS) / (
        len(scripts) * len(KINDS)
    )


def lines(met: Met) -> list[str]:
    """Return the table, a line for each script: how often each fault struck it."""
    width = max(map(len, known_scripts()))
    heads = [kind.replace(" ", "-") for kind in KINDS]
    found = [" ".join(["script".ljust(width), *heads])]
    for script in reachable():
        cells = [
            str(met.struck[script, kind] or "-").rjust(len(head))
            for kind, head in zip(KINDS, heads, strict=True)
        ]
        found.append(" ".join([script.ljust(width), *cells]))
    found += [f"not in the table: {name}, {why}" for name, why in sorted(UNREACHED.items())]
    return found
