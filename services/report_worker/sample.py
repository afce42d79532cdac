"""`python -m services.report_worker.sample FOLDER` makes the report of the shipped data set, as PDF and pictures.

It needs nothing that runs: the steps are called one after the other, with a store in memory. `docs/images/report.png`
is the first of its pictures.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from obstore.store import MemoryStore

from services.report_worker import object_store, workflow
from services.report_worker.pdf import pictures
from services.report_worker.requests import ReportRequested
from services.report_worker.settings import ReportSettings

REQUEST = {
    "report_id": "wildlife-strikes",
    "title": "What wildlife strikes cost",
    "source": {"dataset": "wildlife-strikes"},
    "group_by": "species",
    "measure": "cost",
}


def make(folder: Path) -> None:
    """Write `report.pdf` and one `report-<page>.png` per page."""
    store, settings = object_store.Store(MemoryStore()), ReportSettings()
    request = ReportRequested.model_validate(REQUEST)
    origin = workflow.Origin("sample", "sample", "sample", 1, datetime(2026, 11, 22, 6, tzinfo=UTC))
    work, parts, _ = workflow.fetch_rows(request, origin, store, settings)
    measured = [workflow.measure(work, index, store) for index in range(parts)]
    workflow.draw(workflow.merge(work, measured, store, settings), store)
    pages = pictures(store.get_json(f"{work}/document.json"), store.get_json(f"{work}/charts.json"))
    outcome = workflow.publish(work, store)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.pdf").write_bytes(store.get(outcome["object"]))
    for number, page in enumerate(pages, start=1):
        (folder / f"report-{number}.png").write_bytes(page)


if __name__ == "__main__":
    make(Path(sys.argv[1] if len(sys.argv) > 1 else "var/sample"))
