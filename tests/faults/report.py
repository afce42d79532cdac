"""What a run says at its end: one row per scenario, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

SHOWN = 8  # findings of a failed row that are shown; all of them are in its folder


@dataclass(slots=True)
class Row:
    """The outcome of one scenario."""

    name: str
    kills: int
    events: int
    lost: int
    doubled: int
    slowest_recovery_seconds: float
    passed: bool
    remarks: list[str] = field(default_factory=list)  # what else there is to say
    findings: list[str] = field(default_factory=list)  # what was lost or doubled, in words

    def to_dict(self) -> dict[str, Any]:
        """As it is written to JSON."""
        row = asdict(self)
        del row["remarks"], row["findings"]
        return row


def together(rows: Sequence[Row], seeds: Sequence[int]) -> Row:
    """One row for a scenario that was played with several seeds."""
    if len(rows) == 1:
        return rows[0]
    return Row(
        rows[0].name,
        sum(row.kills for row in rows),
        sum(row.events for row in rows),
        sum(row.lost for row in rows),
        sum(row.doubled for row in rows),
        max(row.slowest_recovery_seconds for row in rows),
        all(row.passed for row in rows),
        [f"seed {seed}: {text}" for seed, row in zip(seeds, rows, strict=True) for text in row.remarks],
        [f"seed {seed}: {text}" for seed, row in zip(seeds, rows, strict=True) for text in row.findings],
    )


def table(rows: Sequence[Row]) -> Table:
    """For people."""
    shown = Table(title="faults", title_justify="left")
    shown.add_column("scenario")
    for name in ("kills", "events", "lost", "doubled", "slowest recovery"):
        shown.add_column(name, justify="right")
    shown.add_column("")
    for row in rows:
        shown.add_row(
            row.name,
            *(f"{n:,}" for n in (row.kills, row.events, row.lost, row.doubled)),
            f"{row.slowest_recovery_seconds:.2f} s",
            "[green]passed[/green]" if row.passed else "[red]FAILED[/red]",
        )
    return shown


def show(console: Console, rows: Sequence[Row]) -> None:
    """The table, then remarks, then what went wrong."""
    console.print(table(rows))
    for row in rows:
        for remark in row.remarks:
            console.print(f"{row.name}: {remark}", highlight=False)
    for row in rows:
        if row.passed:
            continue
        console.print(f"[red]{row.name}[/red] failed:")
        for finding in row.findings[:SHOWN] or ["no single event or task, see the remarks"]:
            console.print(f"  {finding}", highlight=False, markup=False)
        if len(row.findings) > SHOWN:
            console.print(f"  and {len(row.findings) - SHOWN:,} more")


def write(path: Path, rows: Sequence[Row]) -> None:
    """As JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"rows": [row.to_dict() for row in rows]}, indent=2) + "\n")
