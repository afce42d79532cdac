"""`make csv-trial`: a report of every CSV file inside five common data packages, and how many became one.

The packages are installed without what they need, only for the files in them. Of each file the trial takes the
columns that a person would: to group by, the first with few enough different values; to sum up, the first other one
that is numbers. Whatever is not made a report of has to be refused in words that name a line or a column.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import re
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from obstore.store import MemoryStore

from services.report_worker import object_store, workflow
from services.report_worker.requests import ReportRequested
from services.report_worker.settings import ReportSettings
from services.report_worker.source_table import SourceError

PACKAGES = ("pydataset", "vega-datasets", "statsmodels", "scikit-learn", "bokeh-sampledata")
FOLDERS = ("pydataset", "vega_datasets", "statsmodels", "sklearn", "bokeh_sampledata")
AT_LEAST = 0.9
SHOWN = 400  # characters of a refusal

Files = Iterator[tuple[str, bytes]]


def files(folder: Path) -> Files:
    """Yield (name, bytes) of every CSV below a folder, of compressed ones and of those in archives too."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name.endswith(".csv"):
            yield name, path.read_bytes()
        elif path.name.endswith(".csv.gz"):
            yield name, gzip.decompress(path.read_bytes())
        elif path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive:
                    inside = archive.extractfile(member) if member.name.endswith(".csv") else None
                    # `._name` is what macOS keeps beside a file; it is no CSV.
                    if inside is not None and not Path(member.name).name.startswith("._"):
                        yield f"{name}/{member.name}", inside.read()


def columns(body: bytes, most_groups: int) -> tuple[str, str | None]:
    """Return the column to group by and the one with numbers, found without the worker's own reader."""
    text = body.decode("utf-8-sig", "replace")
    head = text.partition("\n")[0]
    delimiter = max(",;\t|", key=head.count) if any(map(head.count, ",;\t|")) else " "
    records = [fields for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if fields]
    names, rows = records[0], records[1:]
    if rows and len(rows[0]) == len(names) + 1:
        names = ["", *names]
    named = [name.strip() or f"column {at}" for at, name in enumerate(names, 1)]
    cells = [[row[at].strip() if at < len(row) else "" for row in rows] for at in range(len(named))]
    grouping = next((at for at, column in enumerate(cells) if len(set(column)) <= most_groups), 0)
    measure = next((at for at, column in enumerate(cells) if at != grouping and _numbers(column)), None)

    def called(at: int) -> str:
        return named[at] if named.count(named[at]) == 1 else f"column {at + 1}"

    return called(grouping), called(measure) if measure is not None else None


def _numbers(column: list[str]) -> bool:
    known = [cell for cell in column if cell.lower() not in ("", "na", "nan", ".", "null")]
    try:
        return bool([float(cell) for cell in known])
    except ValueError:
        return False


def report(body: bytes, group_by: str, measure: str | None, settings: ReportSettings) -> int:
    """Make the PDF as the worker does, part by part; return its pages. Raises SourceError."""
    store = object_store.Store(MemoryStore())
    store.put("uploads/trial/trial.csv", body)
    request = ReportRequested.model_validate(
        {"source": {"object": "uploads/trial/trial.csv"}, "group_by": group_by, "measure": measure}
    )
    origin = workflow.Origin("trial", "trial", "trial", 1, datetime(2026, 11, 22, tzinfo=UTC))
    work, parts, _ = workflow.fetch_rows(request, origin, store, settings)
    measured = [workflow.measure(work, index, store) for index in range(parts)]
    outcome = workflow.publish(workflow.draw(workflow.merge(work, measured, store, settings), store), store)
    return int(outcome["pages"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("var/csv-trial"), help="where the packages go")
    parser.add_argument("--verbose", action="store_true", help="show every refusal")
    args = parser.parse_args()
    if not args.folder.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", str(args.folder), *PACKAGES], check=True)
    settings = ReportSettings()
    made: Counter[str] = Counter()
    refused: dict[str, str] = {}
    vague: dict[str, str] = {}
    began = time.monotonic()
    for package in FOLDERS:
        for name, body in files(args.folder / package):
            try:
                report(body, *columns(body, settings.max_groups), settings)
            except SourceError as error:
                words = str(error)
                place = re.search(r"\b(line|row|column) |columns", words)
                (refused if place else vague)[f"{package}/{name}"] = words
            else:
                made[package] += 1
        print(f"{package}: {made[package]:,} reports", flush=True)
    everything = made.total() + len(refused) + len(vague)
    for name, words in {**(refused if args.verbose else {}), **vague}.items():
        print(f"  {name}: {words[:SHOWN]}")
    share = made.total() / everything if everything else 0.0
    print(
        f"{made.total():,} of {everything:,} CSV files became a report ({share:.1%});"
        f" {len(refused):,} were refused with a line or a column, {len(vague):,} without;"
        f" {time.monotonic() - began:.0f} s"
    )
    if share < AT_LEAST or vague:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
