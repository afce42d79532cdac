"""Workflows: a handler answers with a Celery signature, and the delivery ends when the workflow ends.

The workflow's first tasks are made by Celery's own canvas, captured, and queued by one script that
also ends the handler's queue entry, so a crash starts it once or not at all. Celery gives every part
the workflow's name as its `root_id`: the delivery's id, and the handler's queue entry. That is how parts
find their ledger row, and how those of a workflow that a replay left behind know that they are not wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import Any

import structlog
from celery import Celery, chain, current_task
from celery.exceptions import ChordError, Ignore

from streammesh import lua, names
from streammesh.errors import ResultTooLarge
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.events.publisher import most_bytes
from streammesh.keys import PRIORITY
from streammesh.redisio.retry import insist_sync, mention_sync, until_back
from streammesh.tasks.attempt import Workflow
from streammesh.tasks.context import Context
from streammesh.tasks.handler import context_parameter
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.records import TaskRow, read_task_sync
from streammesh.tasks.settlement import Cause, Ending, carry_out
from streammesh.tasks.task import AttemptOutcome, Failure, LedgerAnswer, QueuePlace, TaskRef
from streammesh.tasks.verdict import describe
from streammesh.transport.codec import encode
from streammesh.worker import message_capture
from streammesh.worker.resources import Plumbing

FOLLOW_UPS = "__follow_ups__"  # a part's result carries the events it published under this name
log = structlog.get_logger(__name__)


def finish_name(service: str) -> str:
    """The task that ends a delivery with its workflow's result."""
    return f"{service}.finish_workflow"


def fail_name(service: str) -> str:
    """The task that ends a delivery when a part of its workflow gave up."""
    return f"{service}.fail_workflow"


def start_call(task: Any, ref: TaskRef, place: QueuePlace, step: Workflow) -> lua.Call[LedgerAnswer]:
    """The call that queues a workflow's first tasks in place of the handler; answers `done` or `lost`."""
    app, service = task.app, ref.service
    published = [event.to_dict() for event in step.context.follow_ups]
    last = app.signature(finish_name(service), kwargs={"published": published})
    root_id = f"{ref.task_id}/{place.entry}"
    on_error = app.signature(fail_name(service), kwargs={"delivery": root_id})
    with message_capture.capturing() as producer:
        # Its parts, and theirs (`task_inherit_parent_priority`), are as urgent as the delivery.
        urgent = {} if place.priority == PRIORITY else {"priority": place.priority}
        chain(step.signature, last, app=app).apply_async(link_error=on_error, root_id=root_id, **urgent)
        sent = producer.take()
    keys = task.terms.ledger.keys
    entries = []
    for queue, message in sent:
        fields = encode(message)
        entries.append((keys.queue(queue, _priority(task, message)), fields[b"h"], fields[b"b"]))
    ours: Ledger = task.terms.ledger
    return ours.start_workflow(ref, place, step.context.attempt, root_id, entries)


def _priority(task: Any, message: dict[str, Any]) -> int:
    """Of the stream that a part is queued in; what another broker carries waits in one stream."""
    if task.plumbing.settings.broker_url:
        return PRIORITY
    return min(9, max(0, int(message["properties"].get("priority", PRIORITY))))


@dataclass(frozen=True, slots=True)
class WorkflowTasks:
    """What a service's app needs for workflows: the two ends, and how parts are made."""

    app: Celery
    plumbing: Plumbing

    @property
    def service(self) -> str:
        """Whose workflows these are."""
        return self.plumbing.service

    def register(self) -> None:
        """Add the tasks that end deliveries, once."""
        if finish_name(self.service) in self.app.tasks:
            return
        self.app.task(self.finish, name=finish_name(self.service), ignore_result=True, shared=False)
        self.app.task(self.fail, name=fail_name(self.service), ignore_result=True, shared=False)

    def finish(self, result: Any, published: list[dict[str, Any]]) -> AttemptOutcome:
        """The workflow has its result: end the delivery with it, unless it has ended meanwhile."""
        carried: list[dict[str, Any]] = list(published)
        result = unwrap(result, carried)
        found = self._current()
        if found is None:
            return AttemptOutcome.SKIPPED
        follow_ups = [envelope.from_dict(event) for event in carried]
        try:
            return self._end(*found, Ending.success(result, follow_ups, Cause.WORKFLOW))
        except (TypeError, ResultTooLarge) as error:  # it cannot be told, and never will be
            return self._end(*found, Ending.failed(describe(error), Cause.WORKFLOW))

    def fail(self, request: Any, error: BaseException, trace: Any, delivery: str) -> AttemptOutcome:
        """A part gave up: end the delivery with that part's reason, unless it has ended meanwhile."""
        found = self._of(delivery)
        if found is None:
            return AttemptOutcome.SKIPPED
        if isinstance(error, ChordError) and error.__cause__ is not None:  # what a part of it raised
            error = error.__cause__
        described = describe(error)
        part = getattr(request, "task", None) or "a part"
        trace = str(trace or "")[-8000:]
        failure = Failure(f"{part}: {described.reason}", described.kind, trace, described.refused)
        return self._end(*found, Ending.failed(failure, Cause.WORKFLOW))

    def _end(self, ref: TaskRef, row: TaskRow, ending: Ending) -> AttemptOutcome:
        client, said = self.plumbing.connections.sync(), {"attempt": row.attempt}
        steps = self.plumbing.settlement.settle(ref, row.place, row.attempt, ending, said=said)
        return carry_out(steps, partial(insist_sync, client))

    def part(self, function: Callable[..., Any], **options: Any) -> Any:
        """Make a function a part of workflows: a Celery task that may take a `ctx`.

        `ctx.progress(...)` is pushed for the delivery; `ctx.publish(...)` events leave together with the
        delivery's end. A part of a delivery that has ended (failed elsewhere, cancelled) does not run.
        """
        context_name = context_parameter(function)
        self.register()

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            if (
                current_task.request.root_id is None
            ):  # called as the function that it is: by a test, by another part
                return function(*args, **kwargs)
            carried: list[dict[str, Any]] = []
            args = tuple(unwrap(value, carried) for value in args)
            context: Context | None = None
            found = self._current()
            if found is None and "/" in current_task.request.root_id:  # a workflow that is over
                raise Ignore
            if found is not None and context_name is not None:
                ref, row = found
                context = self._context(ref, row.attempt)
                kwargs[context_name] = context
            result = function(*args, **kwargs)
            if context is not None:
                carried += [
                    _renamed(event, current_task.request.id).to_dict() for event in context.follow_ups
                ]
            return {FOLLOW_UPS: carried, "result": result} if carried else result

        options.setdefault("resultrepr_maxsize", 0)  # results are the delivery's business, not Flower's
        return self.app.task(
            run, name=f"{self.service}.{function.__name__}", shared=False, typing=False, **options
        )

    def _context(self, ref: TaskRef, attempt: int) -> Context:
        client, ledger = self.plumbing.connections.sync(), self.plumbing.ledger

        def progress(fraction: float, text: str) -> LedgerAnswer:
            return mention_sync(client, LedgerAnswer.DONE, ledger.progress(ref, attempt, fraction, text))

        return Context(ref, attempt, progress, most_bytes(ledger.settings), log)

    def _current(self) -> tuple[TaskRef, TaskRow] | None:
        return self._of(current_task.request.root_id)

    def _of(self, root_id: str) -> tuple[TaskRef, TaskRow] | None:
        """The delivery of a workflow, None when this workflow is not what it waits for (any more)."""
        task_id = root_id.partition("/")[0]
        client, keys = self.plumbing.connections.sync(), self.plumbing.ledger.keys
        row = until_back("task", lambda: read_task_sync(client, keys, task_id))
        if row is None or row.ended or row.workflow != root_id:
            return None
        return row.ref, row


def unwrap(value: Any, carried: list[dict[str, Any]]) -> Any:
    """Take the events that earlier parts published out of what they returned; lists are a group's results."""
    if isinstance(value, dict) and FOLLOW_UPS in value:
        carried += value[FOLLOW_UPS]
        return value["result"]
    if isinstance(value, list):
        return [unwrap(item, carried) for item in value]
    return value


def _renamed(event: Event, part_id: str) -> Event:
    """A part's events get ids of the part's own, so that two parts do not publish under one id."""
    return replace(event, id=names.derived_id(event.source, part_id, event.id))
