"""What a team writes against: a service, its subscriptions, its handlers."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar, get_args

from streammesh import names
from streammesh.batches.list_handler import bind_batch
from streammesh.cancellation.canceller import canceller_handler, canceller_subscription
from streammesh.durable.step_names import step_names
from streammesh.durable.wake import declared_waits, wake_handler, wake_subscription
from streammesh.errors import InvalidManifest
from streammesh.flow.limits import Flow
from streammesh.flow.paths import check_paths
from streammesh.health import Health
from streammesh.process_group import become_group
from streammesh.rollout.membership import edition_of
from streammesh.settings import MeshSettings, mesh_settings
from streammesh.subscriptions.cancel_paths import declared_cancels
from streammesh.subscriptions.declaration import (
    InvalidHandler,
    Seconds,
    SourceLine,
    calling_place,
    filter_of,
    former_names,
    place_of,
    priority_of,
    refuse_while_importing,
    seconds,
    task_part,
    whole_number,
)
from streammesh.subscriptions.manifest import Manifest, Subscription, check
from streammesh.tasks.handler import Binding, bind
from streammesh.tasks.verdict import RetryPolicy
from streammesh.worker.app import MeshCelery, make_app, set_current_app
from streammesh.worker.around_handlers import AroundHandlers, said_at
from streammesh.worker.config import PoolKind, pool_config, queue_config
from streammesh.worker.delivery_task import DeliveryTask
from streammesh.worker.expectations import Expectations, retry_policy
from streammesh.worker.handler_versions import DeclaredVersion, HandlerVersion, versions_with
from streammesh.worker.member import run_worker
from streammesh.worker.resources import Plumbing
from streammesh.worker.workflow import WorkflowTasks
from streammesh.worker.workflow_part import WorkflowParts

F = TypeVar("F", bound=Callable[..., Any])


class Service(AroundHandlers, Expectations, WorkflowParts):
    """One team's worker: it owns the queue of its name and one Celery app.

    Making it connects to nothing; settings are read at first use. `prefetch`: how many tasks its worker
    takes from the queue for each that it can run at once. 1 keeps every task free for whichever worker is
    idle first; handlers that take milliseconds run several times faster with 8 or 16, since their worker
    then need not ask for each. What a worker has taken ahead is before whatever comes with a higher priority.
    `queues`: further queues, such as `("default", "urgent")`, for handlers with `queue=`; `default` is its own.
    Its workers read all of them, or those that they are started for (`run`, `-Q urgent`).
    """

    def __init__(
        self,
        name: str,
        *,
        pool: PoolKind | None = None,
        prefetch: int = 1,
        queues: Sequence[str] = (),
        settings: MeshSettings | None = None,
    ) -> None:
        with said_at(calling_place()):
            whole_number("prefetch", prefetch, 1, 100_000)
            if pool is not None and pool not in get_args(PoolKind):
                raise InvalidManifest(f"pool={pool!r}: should be one of {', '.join(get_args(PoolKind))}")
            if isinstance(queues, str):
                raise InvalidManifest(f"queues={queues!r:.80}: should be a list of names")
            self._queues = tuple(one for one in dict.fromkeys(queues) if one != names.DEFAULT_QUEUE)
            check(Manifest(name, queues=self._queues))
        super().__init__()
        self.name = name
        self.celery_app: MeshCelery = make_app(name, settings, prefetch=prefetch)
        self._settings, self._pool = settings, pool
        self._subscriptions: list[Subscription] = []
        self._bindings: dict[str, Binding] = {}
        self._tasks: dict[str, Callable[[Plumbing], type[DeliveryTask]]] = {}
        self._formerly: dict[str, str] = {}  # name that a handler had -> the one that it has
        self._wakers: set[str] = set()  # names of the subscriptions that end waits, or cancel
        self._versions: dict[str, dict[int, DeclaredVersion]] = {}  # of each handler
        self._plumbing = self.celery_app.plumbing = Plumbing(
            name, lambda: self.settings, makers=self._makers, hooks=self._hooks
        )
        self._parts = WorkflowTasks(self.celery_app, self._plumbing)
        self.celery_app.manifest = self.manifest
        self._plumbing.edition = cache(lambda: edition_of(self.manifest()).digest)
        self.celery_app.add_defaults(self._defaults)
        set_current_app(self.celery_app)

    @property
    def health(self) -> Health:
        """What `/livez` and `/readyz` of its process say. A team may add parts of its own."""
        return self._plumbing.health

    @property
    def settings(self) -> MeshSettings:
        """The mesh's settings, as this service sees them."""
        return self._settings or mesh_settings()

    def on(
        self,
        event_type: str,
        *,
        where: Mapping[str, Any] | str | None = None,
        retries: int = 5,
        backoff: Seconds = 1.0,
        backoff_cap: Seconds = 600.0,
        timeout: Seconds | None = None,
        expires: Seconds | None = None,
        priority: int | str | None = None,
        keep: Seconds | None = None,
        breaker: bool = True,
        queue: str | None = None,
        name: str | None = None,
        formerly: Sequence[str] = (),
        version: int = 1,
        waits: Mapping[str, str | Sequence[str]] | None = None,
        cancel_on: Mapping[str, str | Sequence[str]] | None = None,
        key: str | None = None,
        concurrency: int | None = None,
        total: int | None = None,
        fair: bool = False,
        order: bool = False,
        throttle: str | None = None,
        drop: str | None = None,
        singleton: str | None = None,
        debounce: Seconds | None = None,
        max_wait: Seconds | None = None,
        batch: int | None = None,
        linger: Seconds | None = None,
    ) -> Callable[[F], F]:
        """Subscribe a handler, `async def` or `def`, to events of a type (exact, or a glob such as `order.*`).

        `where`: paths and conditions that must fit (see `subscriptions/filters.py`), or a text in CEL such as
        `"data.total > 100 && data.country in ['DE', 'AT']"`. `retries`: how often a
        failed delivery is tried again, with exponential backoff from `backoff` up to `backoff_cap` and full
        jitter. `timeout`: how long one attempt may take. `expires`: how long after publishing it is
        worth starting at all. `priority`: 0 (low) to 9 (high), in place of the event's own, or the path of a number
        (`"data.weight"`). `queue`: one of the
        service's further queues. `keep`: how long the ended record stays.
        `name`: what it is called, in place of the function's name. `formerly`: names that it had before; what still
        waits under one of them is given to it. `breaker=False`: never pause it, however often it fails in a row.
        `waits`: what a durable handler may wait for with `ctx.wait_for`, each type with the path or paths that it is matched
        by. `cancel_on`: types of events that cancel its open tasks of which the event has the same value, each type with the path
        (`{"order.cancelled": "data.order_id"}`) or a pair: the path in the event that cancels, the path in its own.
        `version`: runs of a durable handler go on with the version that they began with. Older ones stand beside the newest
        with the same `name`, as long as runs of them are under way; all other options are those of the newest.
        Flow control, over the whole mesh (docs/flow.md): of one `key` (a path, such as `"data.tenant"`) at most `concurrency` run
        at a time, of all `total`, for which keys take turns with `fair`; with `order` one of a key after the other, in stream
        order. `throttle="100/m"`: more wait; `drop="5/h"`: more end as skipped. `singleton`: while one of a key is
        there the next is skipped (`"skip"`), or it is cancelled for the next (`"cancel_running"`). `debounce="30s"`: the last
        of a key runs when none has come for so long, or the first has waited `max_wait`; the others end as folded into it.
        `batch=500, linger="1s"`: the handler is given a list, of so many events of a key or of those that came in that time.
        Durations are seconds, timedeltas or text such as `"30s"`. The decorated function stays callable.
        Raises InvalidHandler, which names the file and line, when the handler or an option cannot be taken.
        """

        here = calling_place()
        if not isinstance(event_type, str):  # `@service.on`, which is given the function itself
            raise InvalidHandler(
                f"{place_of(event_type, here)}: write @{self.name}.on(TYPE) with the type of the events it wants"
                if callable(event_type)
                else f"{here}: {event_type!r:.80} is not an event type"
            )
        with said_at(here):
            policy = retry_policy(retries, backoff, backoff_cap)
            quiet, longest = seconds("debounce", debounce), seconds("max_wait", max_wait)
            flow = Flow(
                key,
                concurrency,
                total,
                fair,
                order,
                throttle,
                drop,
                singleton,
                quiet,
                longest,
                batch,
                seconds("linger", linger),
            )
            number, priority_path = priority_of(priority)
            check_paths(key=key, priority=priority_path)
            subscription = Subscription(
                service=self.name,
                task=f"{self.name}.",
                type=event_type,
                where=filter_of(where, event_type),
                timeout=seconds("timeout", timeout),
                retries=retries,
                expires=seconds("expires", expires),
                priority=number,
                priority_path=priority_path,
                keep=seconds("keep", keep),
                queue=None if queue == names.DEFAULT_QUEUE else queue,
                version=whole_number("version", version, 1, 1_000_000),
                formerly=former_names(self.name, formerly),
                waits=declared_waits(waits),
                cancel_on=declared_cancels(cancel_on, event_type),
                flow=flow if flow != Flow() else None,
            )

        return self._decorator(here, subscription, policy, breaker, name)

    def _decorator(
        self,
        here: SourceLine,
        subscription: Subscription,
        policy: RetryPolicy,
        breaker: bool,
        name: str | None,
        around: Callable[[Binding], Binding] = lambda binding: binding,
    ) -> Callable[[F], F]:
        """What makes a function the handler of a subscription; `around`: how it is called in place of the function."""
        with said_at(here):
            if not isinstance(breaker, bool):
                raise InvalidManifest(f"breaker={breaker!r}: should be True or False")

        def decorate(handler: F) -> F:
            with said_at(here, handler):
                takes_list = subscription.flow is not None and subscription.flow.batch is not None
                binding = around((bind_batch if takes_list else bind)(handler, self._makers))
                if takes_list and (
                    subscription.waits
                    or subscription.version > 1
                    or step_names(handler, binding.context_name)
                ):
                    raise InvalidManifest("a handler of batches has no steps, waits or versions")
                named = replace(subscription, task=f"{self.name}.{task_part(name or handler.__name__)}")
                others = [one for one in self._subscriptions if one.task != named.task]
                check(Manifest(self.name, subscriptions=(*others, named), queues=self._queues))
                check_paths(binding.schema, key=named.flow and named.flow.key, priority=named.priority_path)
                self._add_version(DeclaredVersion(named, binding, policy, breaker, here))
            self._add_wakers(named)
            self._add_cancellers(named)
            return handler

        return decorate

    def delivery_tasks(self, plumbing: Plumbing) -> dict[str, DeliveryTask]:
        """Return its handlers as tasks of their own, by name, over other plumbing than its worker's; for tests."""
        return {task: made(plumbing)() for task, made in self._tasks.items()}

    def plumbing_for(self, settings: MeshSettings) -> Plumbing:
        """Return plumbing of its own, with the service's resources and hooks, in another mesh; for tests."""
        return Plumbing(self.name, lambda: settings, makers=self._makers, hooks=self._hooks)

    def _defaults(self) -> dict[str, Any]:
        """Of the Celery app's configuration."""
        return pool_config(self.pool, self.settings) | queue_config(self.name, self._queues)

    def _add_version(self, written: DeclaredVersion) -> None:
        """Take in a version of a handler; new runs begin with the newest. Raises InvalidManifest."""
        task, pool = written.subscription.task, self.pool
        for name in (task, *written.subscription.formerly):
            if self._formerly.get(name, task) != task or (name != task and name in self._bindings):
                raise InvalidManifest(f"two handlers have the name {name!r}, one of them formerly")
            if name not in self._tasks:
                self._check_name(name)
        newest, older = versions_with(self._versions.setdefault(task, {}), written)
        known = [one.task for one in self._subscriptions]
        if task in known:
            self._subscriptions[known.index(task)] = newest.subscription
        else:
            self._subscriptions.append(newest.subscription)
        self._bindings[task] = newest.binding
        if self.pool != pool:  # Celery has read its configuration as the first handler was registered
            self.celery_app.add_defaults(self._defaults)
        self._formerly |= dict.fromkeys(written.subscription.formerly, task)
        for name in dict.fromkeys((task, *newest.subscription.formerly)):
            known_as = replace(newest.subscription, task=name)
            self._add_task(known_as, lambda _: newest.binding, newest.policy, newest.breaker, older)

    def _add_wakers(self, subscription: Subscription) -> None:
        """Subscribe to what a handler waits for, once for all handlers that wait for it alike."""
        for event_type, paths in subscription.waits.items():
            waker = wake_subscription(self.name, event_type, paths, subscription.queue)
            if waker.task in self._wakers:
                continue
            check(Manifest(self.name, subscriptions=(*self._subscriptions, waker), queues=self._queues))

            def bound(plumbing: Plumbing, of: str = event_type, by: Sequence[str] = paths) -> Binding:
                return bind(wake_handler(self.name, of, by, lambda: plumbing.durable))

            self._subscriptions.append(waker)
            self._wakers.add(waker.task)
            self._add_task(waker, bound, RetryPolicy(waker.retries), breaker=False)

    def _add_cancellers(self, subscription: Subscription) -> None:
        """Subscribe to what cancels a subscription's open tasks."""
        for event_type in subscription.cancel_on:
            one = canceller_subscription(subscription, event_type)
            if one.task in self._wakers:  # of another version of the handler
                continue
            check(Manifest(self.name, subscriptions=(*self._subscriptions, one), queues=self._queues))

            def bound(plumbing: Plumbing, of: str = event_type) -> Binding:
                return bind(canceller_handler(subscription, of, lambda: plumbing.canceller))

            self._subscriptions.append(one)
            self._wakers.add(one.task)
            self._add_task(one, bound, RetryPolicy(one.retries), breaker=False)

    def _add_task(
        self,
        subscription: Subscription,
        bound: Callable[[Plumbing], Binding],
        policy: RetryPolicy,
        breaker: bool,
        older: Mapping[int, HandlerVersion] = {},
    ) -> None:
        def made(plumbing: Plumbing) -> type[DeliveryTask]:
            about = {
                "name": subscription.task,
                "subscription": subscription,
                "binding": bound(plumbing),
                "policy": policy,
                "breaker": breaker,
                "older": older,
                "plumbing": plumbing,
            }
            return type(subscription.task, (DeliveryTask,), about)

        self._tasks[subscription.task] = made
        self.celery_app.tasks.pop(subscription.task, None)  # where this is a further version
        self.celery_app.register_task(made(self._plumbing)())

    def manifest(self) -> Manifest:
        """What this service tells the mesh about itself when its worker starts."""
        try:
            ours = version("streammesh")
        except PackageNotFoundError:
            ours = "0"
        schemas = {task: schema for task, b in self._bindings.items() if (schema := b.schema())}
        steps = {
            task: named
            for task, b in self._bindings.items()
            if (named := step_names(b.handler, b.context_name))
        }
        return Manifest(
            self.name, ours, tuple(self._subscriptions), schemas, self._queues, self._publishes, steps
        )

    @property
    def pool(self) -> PoolKind:
        """The pool its worker runs: as said, else `async` if any handler is `async def`, else `prefork`."""
        if self._pool:
            return self._pool
        return "async" if any(b.is_async for b in self._bindings.values()) else "prefork"

    def run(self, queues: Sequence[str] | None = None, *, processes: int | None = None) -> None:
        """Run the worker until it is told to stop; ends the process with the worker's exit code.

        `processes` (else `MESH_PROCESSES`): so many workers under one parent. Raises InvalidManifest for a prefork pool.
        It reads `queues`, else those after `-Q` on the command line (`python -m services.mail -Q urgent`), else all
        of the service's. Ends with exit code 2 for one that the service does not have.
        """
        refuse_while_importing("service.run()")
        chosen = _asked_for(sys.argv[1:]) if queues is None else list(queues)
        known = {names.DEFAULT_QUEUE, self.name, *self._queues, *self.manifest().queue_names}
        for unknown in sorted(set(chosen) - known):
            sys.stderr.write(
                f"{self.name} has no queue {unknown!r}; it has {', '.join((names.DEFAULT_QUEUE, *self._queues))}\n"
            )
            raise SystemExit(2)
        become_group(self.name, self.pool, processes, self.settings)  # where it should be one
        sys.exit(run_worker(self.celery_app, chosen))


def _asked_for(arguments: Sequence[str]) -> list[str]:
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-Q", "--queues", default="")
    known, _ = parser.parse_known_args(arguments)
    return [name for one in known.queues.split(",") if (name := one.strip())]
