"""What the report worker's tests share: a store in memory, settings, a request's way through the steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from obstore.store import MemoryStore

from services.report_worker import workflow
from services.report_worker.object_store import Store
from services.report_worker.requests import ReportRequested
from services.report_worker.settings import ReportSettings
from services.report_worker.workflow import Origin

TASK = "0b8cbd6f-6f5e-5b0e-9d0e-1c1f0e7a4a51"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def store() -> Store:
    return Store(MemoryStore())


@pytest.fixture
def settings() -> ReportSettings:
    return ReportSettings(_env_file=None, rows_per_part=500)


@pytest.fixture
def origin() -> Origin:
    return Origin("/shop", "event-1", TASK, 1, datetime(2026, 11, 22, 6, 0, 0, 123456, tzinfo=UTC))


@pytest.fixture
def run(store: Store, settings: ReportSettings, origin: Origin) -> Run:
    """Runs all steps of a report of kind rows, one after the other; answers the data of `report.generated`."""

    def run(**data: Any) -> dict[str, Any]:
        request = ReportRequested.model_validate(data)
        work, parts, _ = workflow.fetch_rows(request, origin, store, settings)
        measured = [workflow.measure(work, index, store) for index in range(parts)]
        merged = workflow.merge(work, measured, store, settings)
        return workflow.publish(workflow.draw(merged, store), store)

    return run
