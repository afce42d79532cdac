"""What processes cost: CPU time and memory of a process with its children, read from /proc (Linux)."""

from __future__ import annotations

import os
import platform
from pathlib import Path

PROC = Path("/proc")


def family(pid: int) -> list[int]:
    """The process and everything it started that is still there."""
    found, to_look_at = [], [pid]
    while to_look_at:
        one = to_look_at.pop()
        found.append(one)
        for children in PROC.glob(f"{one}/task/*/children"):
            try:
                to_look_at += [int(child) for child in children.read_text().split()]
            except OSError:
                continue  # it ended while we looked
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that the living threads of a process and of its children have had; exact to the nanosecond."""
    spent = 0
    for one in family(pid):
        for thread in PROC.glob(f"{one}/task/*/schedstat"):
            try:
                spent += int(thread.read_text().split()[0])
            except OSError:
                continue
    return spent / 1e9


def resident_mb(pid: int) -> float:
    """Memory in RAM (RSS) of a process and its children together, MB; what they share counts for each."""
    kilobytes = 0
    for one in family(pid):
        try:
            rollup = (PROC / str(one) / "smaps_rollup").read_text()
        except OSError:
            continue
        kilobytes += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))
    return kilobytes / 1024


def description() -> str:
    """The machine and the interpreter, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}"
    )
