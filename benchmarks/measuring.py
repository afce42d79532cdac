"""What was measured: names, runs, medians; as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks import server
from benchmarks.machine import description
from benchmarks.targets import Measured


@dataclass
class Measurement:
    """One figure of one system; `value` is the median of `runs`."""

    name: str
    system: str
    unit: str
    runs: list[float] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.runs)


@dataclass
class Results:
    """All measurements of one call of the suite."""

    measurements: list[Measurement] = field(default_factory=list)

    def add(self, name: str, unit: str, value: float, system: str = "streammesh") -> None:
        """Record one run of one figure."""
        for known in self.measurements:
            if (known.name, known.system) == (name, system):
                known.runs.append(value)
                return
        self.measurements.append(Measurement(name, system, unit, [value]))

    def show(self, console: Console) -> None:
        """Print the table."""
        table = Table(title=f"{description()}; {server.about()}", title_justify="left")
        for column in ("what", "system"):
            table.add_column(column, no_wrap=True)
        for column in ("median", "least", "most", "runs"):
            table.add_column(column, justify="right")
        table.add_column("unit")
        for m in sorted(self.measurements, key=lambda m: (m.name, m.system != "streammesh", m.system)):
            table.add_row(
                m.name, m.system, figure(m.value), figure(min(m.runs)), figure(max(m.runs)),
                str(len(m.runs)), m.unit,
            )  # fmt: skip
        console.print(table)

    def as_measured(self) -> list[Measured]:
        """Plain dictionaries, as they are written."""
        return [
            {"name": m.name, "system": m.system, "value": m.value, "unit": m.unit, "runs": m.runs}
            for m in self.measurements
        ]

    def write(self, path: Path) -> None:
        """Write `{"measurements": [{"name", "system", "value", "unit", "runs"}], "about": {...}}`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "machine": description(),
            "server": server.about(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        results = {"measurements": self.as_measured(), "about": about}
        path.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2))


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def figure(value: float) -> str:
    """A number for people: about three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
