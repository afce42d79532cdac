"""Connections that come back soon, however long the broker was away.

kombu waits longer and longer between tries, up to half a minute, so a worker would idle on for that long
after Redis is back. The lease keeper tries every second; consuming should not be far behind.
"""

from __future__ import annotations

from typing import Any

from celery.app.amqp import AMQP
from kombu import Connection

from streammesh.worker import lost_tasks as lost_tasks  # callers are told of tasks that become dead letters

FIRST, LONGER_BY, LONGEST = 0.5, 0.5, 2.0  # seconds between tries


class SteadyConnection(Connection):
    """A kombu connection whose waits between tries stay short."""

    def _ensure_connection(
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float = FIRST,
        interval_step: float = LONGER_BY,
        interval_max: float = LONGEST,
        **options: Any,
    ) -> Any:
        return super()._ensure_connection(
            errback, max_retries, interval_start, interval_step, interval_max, **options
        )


class SteadyAMQP(AMQP):
    """Celery's messaging with steady connections; for `Celery(amqp=...)`."""

    Connection = SteadyConnection
