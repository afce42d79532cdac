"""What a team writes against: a service, its subscriptions, its handlers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from streammesh import logs
from streammesh.health import Health
from streammesh.settings import MeshSettings, mesh_settings, parse_duration
from streammesh.subscriptions.manifest import Manifest, Subscription, check
from streammesh.tasks.handler import Binding, bind
from streammesh.tasks.retry_policy import RetryPolicy
from streammesh.worker.app import MeshCelery, make_app
from streammesh.worker.delivery_task import DeliveryTask
from streammesh.worker.resources import Plumbing
from streammesh.worker.run import PoolKind, run_worker
from streammesh.worker.workflow import WorkflowTasks

F = TypeVar("F", bound=Callable[..., Any])
Seconds = float | str | timedelta


class Service:
    """One team's worker: it owns the queue of its name and one Celery app.

    Making it connects to nothing; settings are read at first use. `prefetch`: how many tasks its worker
    takes from the queue for each that it can run at once. 1 keeps every task free for whichever worker is
    idle first; handlers that take milliseconds run several times faster with 8 or 16, since their worker
    then need not ask for each, and a worker process is given its next task while it is at work.
    """

    def __init__(
        self,
        name: str,
        *,
        pool: PoolKind | None = None,
        prefetch: int = 1,
        settings: MeshSettings | None = None,
    ) -> None:
        if prefetch < 1:
            raise ValueError(f"prefetch is a whole number from 1, not {prefetch}")
        check(Manifest(name))
        self.name = name
        self.celery_app: MeshCelery = make_app(name, settings, prefetch=prefetch)
        self._settings, self._pool = settings, pool
        self.health = (
            Health()
        )  # what `/livez` and `/readyz` of its worker say; a team may add parts of its own
        self._parts: WorkflowTasks | None = None
        self._subscriptions: list[Subscription] = []
        self._bindings: dict[str, Binding] = {}
        self._plumbing = self.celery_app.plumbing = Plumbing(name, lambda: self.settings)

    @property
    def settings(self) -> MeshSettings:
        """The mesh's settings, as this service sees them."""
        return self._settings or mesh_settings()

    def on(
        self,
        event_type: str,
        *,
        where: Mapping[str, Any] | None = None,
        retries: int = 5,
        backoff: Seconds = 1.0,
        backoff_cap: Seconds = 600.0,
        timeout: Seconds | None = None,
        expires: Seconds | None = None,
        priority: int | None = None,
        keep: Seconds | None = None,
        breaker: bool = True,
        name: str | None = None,
    ) -> Callable[[F], F]:
        """Subscribe a handler, `async def` or `def`, to events of a type (exact, or a glob such as `order.*`).

        `where`: paths and conditions that must fit (see `subscriptions/matching.py`). `retries`: how often a
        failed delivery is tried again, with exponential backoff from `backoff` up to `backoff_cap` and full
        jitter. `timeout`: how long one attempt may take. `expires`: how long after publishing it is
        worth starting at all. `priority`: 0 (low) to 9 (high). `keep`: how long the ended record stays.
        `breaker=False`: never pause it, however often it fails in a row.
        Durations are seconds, timedeltas or text such as `"30s"`. The decorated function stays callable.
        Raises InvalidManifest or TypeError when the handler or the options cannot be taken.
        """

        def decorate(handler: F) -> F:
            task_name = f"{self.name}.{name or handler.__name__}"
            binding = bind(handler)
            subscription = Subscription(
                service=self.name,
                task=task_name,
                type=event_type,
                where=dict(where or {}),
                timeout=_seconds(timeout),
                retries=retries,
                expires=_seconds(expires),
                priority=priority,
                keep=_seconds(keep),
            )
            check(Manifest(self.name, subscriptions=(*self._subscriptions, subscription)))
            self._subscriptions.append(subscription)
            self._bindings[task_name] = binding
            policy = RetryPolicy(retries, _span(backoff), _span(backoff_cap))
            self._add_task(subscription, binding, policy, breaker)
            return handler

        return decorate

    def _add_task(
        self, subscription: Subscription, binding: Binding, policy: RetryPolicy, breaker: bool
    ) -> None:
        task = type(
            subscription.task,
            (DeliveryTask,),
            {
                "name": subscription.task,
                "subscription": subscription,
                "binding": binding,
                "policy": policy,
                "breaker": breaker,
                "plumbing": self._plumbing,
            },
        )
        self.celery_app.register_task(task())

    def part(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Decorate a part of a workflow: a Celery task (`.s()`, `.si()`) that may take a `ctx`.

        Through `ctx` it pushes progress for the delivery that the workflow belongs to, and publishes
        events that leave together with the delivery's end. `options` are Celery's task options.
        """
        if self._parts is None:
            self._parts = WorkflowTasks(self.celery_app, self._plumbing)
            self._parts.register()
        parts = self._parts
        if function is None:
            return lambda decorated: parts.part(decorated, **options)
        return parts.part(function, **options)

    def manifest(self) -> Manifest:
        """What this service tells the mesh about itself when its worker starts."""
        try:
            ours = version("streammesh")
        except PackageNotFoundError:
            ours = "0"
        schemas = {task: schema for task, b in self._bindings.items() if (schema := b.schema())}
        return Manifest(self.name, ours, tuple(self._subscriptions), schemas)

    @property
    def pool(self) -> PoolKind:
        """The pool its worker runs: as said, else `async` if any handler is `async def`, else `prefork`."""
        if self._pool:
            return self._pool
        return "async" if any(b.is_async for b in self._bindings.values()) else "prefork"

    def run(self) -> None:
        """Run the worker until it is told to stop; ends the process with the worker's exit code."""
        settings = self.settings
        logs.configure(settings, self.name)
        running, health = self._plumbing.running, self.health
        sys.exit(run_worker(self.celery_app, self.manifest(), settings, self.pool, running, health))


def _span(value: Seconds) -> timedelta:
    span = parse_duration(value)
    if not isinstance(span, timedelta):
        raise TypeError(f"{value!r} is not a duration")
    return span


def _seconds(value: Seconds | None) -> float | None:
    return None if value is None else _span(value).total_seconds()
