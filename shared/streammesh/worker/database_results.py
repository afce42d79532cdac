"""Results of plain Celery tasks in PostgreSQL, where `MESH_RESULT_URL` names one; deliveries' own stay in the mesh.

Celery's backend keeps a row for ever unless `celery beat` tells it to clean up, which here nothing does: the mesh's
Beat fires the mesh's schedules alone. So each process that stores results removes old ones itself, once an hour.
"""

from __future__ import annotations

import threading
import time
from math import inf
from typing import Any

import structlog
from celery.backends.database import DatabaseBackend
from kombu.utils.encoding import ensure_bytes

from streammesh.worker.internals import StoredResults

CLEANUP_SECONDS = 3600.0
log = structlog.get_logger(__name__)


class DatabaseResults(StoredResults, DatabaseBackend):
    """Celery's, which outlasts an absence of the database in a worker, keeps within `result_expires`, and unpickles
    nothing."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if getattr(self.app, "is_worker", False):
            self.max_retries = inf  # the task is not acknowledged before its result is stored
        self._clean_at = time.monotonic()

    def store_result(self, *args: Any, **options: Any) -> Any:
        """As Celery's; now and then old results are removed."""
        stored = super().store_result(*args, **options)
        if self.expires and time.monotonic() >= self._clean_at:
            self._clean_at = time.monotonic() + CLEANUP_SECONDS
            threading.Thread(target=self._clean_up, name="result-cleanup", daemon=True).start()
        return stored

    def _clean_up(self) -> None:
        try:
            self.cleanup()
        except Exception as error:
            log.warning("results.not_cleaned", reason=type(error).__name__)

    def stored_result(self, payload: Any) -> Any:
        """As Celery's, without its way back to pickles of old versions: whoever can write a row could run code."""
        return None if payload is None else self.decode(ensure_bytes(payload))
