"""Connections that come back soon, however long the broker was away.

kombu waits longer and longer between tries, up to half a minute, so a worker would idle on for that long
after Redis is back. The lease keeper tries every second; consuming should not be far behind.
"""

from __future__ import annotations

from streammesh.worker import lost_tasks as lost_tasks  # callers are told of tasks that become dead letters
from streammesh.worker.internals import CeleryAMQP, KombuConnection

FIRST, LONGER_BY, LONGEST = 0.5, 0.5, 2.0  # seconds between tries


class SteadyConnection(KombuConnection):
    """A kombu connection whose waits between tries stay short."""

    first_wait, longer_by, longest_wait = FIRST, LONGER_BY, LONGEST


class SteadyAMQP(CeleryAMQP):
    """Celery's messaging with steady connections; for `Celery(amqp=...)`."""

    Connection = SteadyConnection
