"""What a fuzz target counts, and the line that says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MOST_GROWTH_MB = 64.0  # that a process may grow by under garbage; a leak goes beyond it in minutes


@dataclass(slots=True)
class Tally:
    """What one run of one target came to.

    `requests`: pieces of garbage that were thrown, whatever the target throws them at. `growth_mb`: by how much the
    resident memory of the process under test grew, first warm-up left out. `failures`: what was wrong, one line each.
    """

    target: str
    requests: int = 0
    server_errors: int = 0  # answers 500 to 599 that are not 503 in words
    hangs: int = 0  # what was not answered in the target's time limit
    growth_mb: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return (
            self.requests > 0
            and not (self.server_errors or self.hangs or self.failures)
            and self.growth_mb <= MOST_GROWTH_MB
        )

    def line(self) -> str:
        """The closing line."""
        return (
            f"{self.target}: {self.requests:,} requests, {self.server_errors} answered 5xx, {self.hangs} hung,"
            f" memory {self.growth_mb:+.1f} MB, {len(self.failures)} other failures:"
            f" {'passed' if self.passed else 'FAILED'}"
        )


def together(tallies: Sequence[Tally]) -> Tally:
    """All targets in one."""
    return Tally(
        "all",
        sum(one.requests for one in tallies),
        sum(one.server_errors for one in tallies),
        sum(one.hangs for one in tallies),
        max((one.growth_mb for one in tallies), default=0.0),
        [f"{one.target}: {failure}" for one in tallies for failure in one.failures],
    )


def resident_mb(pid: int | str = "self") -> float:
    """The resident memory of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
