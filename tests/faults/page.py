"""`python -m tests.faults.page "make faults"`: writes the rows of the last run into `docs/faults.md`, saying how it was run."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.harness.processes import ROOT

PAGE = ROOT / "docs" / "faults.md"
LATEST = ROOT / "var" / "faults" / "latest.json"
BEGIN, END = "<!-- rows -->", "<!-- end of rows -->"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """For a page in Markdown."""
    lines = [
        "| scenario | kills | events | lost | doubled | slowest recovery | |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        counts = " | ".join(f"{row[name]:,}" for name in ("kills", "events", "lost", "doubled"))
        outcome = "passed" if row["passed"] else "**failed**"
        lines.append(f"| {row['name']} | {counts} | {row['slowest_recovery_seconds']:.2f} s | {outcome} |")
    return "\n".join(lines)


def machine() -> str:
    """The machine and the interpreter, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GB, {system}, Python {platform.python_version()}"


def page(text: str, rows: Sequence[Mapping[str, Any]], about: str) -> str:
    """The page with other rows in it. Raises ValueError when it has no place for them."""
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{PAGE} has no place for the rows: {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{about}\n\n{table(rows)}\n{END}{after}"


def main(how: str, file: Path = LATEST) -> None:
    """The command."""
    when = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    about = f"`{how}`, {when:%Y-%m-%d}, on {machine()}:"
    PAGE.write_text(
        page(PAGE.read_text("utf-8"), json.loads(file.read_text("utf-8"))["rows"], about), "utf-8"
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:3]))
