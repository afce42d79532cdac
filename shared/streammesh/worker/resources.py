"""What handlers' bookkeeping needs, made from the settings at first use and never at import time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from celery import signals

from streammesh.cancellation.canceller import Canceller
from streammesh.clock import Clock, SystemClock
from streammesh.durable.calls import DurableCalls
from streammesh.group_link import GroupLink
from streammesh.group_place import group_place
from streammesh.health import Health, serve_health
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.settlement import Settlement
from streammesh.worker.connections import Connections
from streammesh.worker.handler_threads import HandlerThreads
from streammesh.worker.hooks import Hooks
from streammesh.worker.process_end import end_process
from streammesh.worker.resource_function import Resource
from streammesh.worker.running_handlers import RunningHandlers
from streammesh.worker.shared_resources import SharedResources


class Plumbing:
    """One service's ledger, connections, running handlers, and what its handlers share in this process."""

    def __init__(
        self,
        service: str,
        settings: Callable[[], MeshSettings],
        clock: Clock | None = None,
        makers: Mapping[Any, Resource] | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self.service, self._settings, self.clock = service, settings, clock or SystemClock()
        self.running, self.threads = RunningHandlers(), HandlerThreads()
        self.health, self._serves_health = Health(), False
        self.edition: Callable[[], str] = str  # digest of what this process runs; empty outside of a mesh
        self.hooks = Hooks() if hooks is None else hooks
        self.resources = SharedResources(
            {} if makers is None else makers, self.threads, lambda: self.connections
        )

    def serve_health(self) -> None:
        """Answer `/livez` and `/readyz` from now on, in a group by way of its parent; harmless when called again."""
        if self._serves_health:
            return
        self._serves_health, place, settings = True, group_place(), self.settings
        if place is None:
            serve_health(self.health, settings.health_host, settings.health_port, measured=settings.metrics)
        else:
            drain = settings.drain.total_seconds()
            link = GroupLink(place, self.health, drain, end_process, measured=settings.metrics)
            signals.worker_shutting_down.connect(link.stopping, weak=False)

    @cached_property
    def settings(self) -> MeshSettings:
        """The mesh's settings."""
        return self._settings()

    @cached_property
    def ledger(self) -> Ledger:
        """Builds the ledger's calls."""
        return Ledger(Keys(self.settings.namespace), self.settings)

    @cached_property
    def settlement(self) -> Settlement:
        """Ends tasks."""
        return Settlement(Keys(self.settings.namespace), self.settings, self.clock)

    @cached_property
    def durable(self) -> DurableCalls:
        """Builds the calls of durable handlers."""
        return DurableCalls(Keys(self.settings.namespace), self.settings)

    @cached_property
    def canceller(self) -> Canceller:
        """Ends what events cancelled."""
        return Canceller(Keys(self.settings.namespace), self.settings)

    @cached_property
    def connections(self) -> Connections:
        """The clients."""
        return Connections(self.settings, f"{self.service}-handlers")
