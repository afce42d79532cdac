"""Celery's consumer, where nothing that it cannot run is dropped.

Stock Celery acknowledges, and so loses, what it does not know or cannot read. Here a task that this
worker does not know goes back for later, and what can never be run becomes a dead letter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis
import structlog
from celery.worker.consumer import Consumer
from redis.exceptions import RedisError

from streammesh import lua, names
from streammesh.brokers.copies import fields_of, name_of, tag_of
from streammesh.rollout.beside import look_call
from streammesh.tasks.dead_letter import park_carried_call
from streammesh.tasks.records import read_task_sync
from streammesh.tasks.task import Failure, QueuePlace
from streammesh.transport.internals import keep_decoded
from streammesh.transport.poison import MALFORMED, park
from streammesh.transport.scripts import QueueCalls, Read, unread_calls
from streammesh.worker.delivery_task import DeliveryTask
from streammesh.worker.fast_request import fast_path
from streammesh.worker.postponement import postpone_call, unknown
from streammesh.worker.refs import queue_place, untyped_payload

log = structlog.get_logger(__name__)
TURN_SECONDS = 1.0  # between two signs that the loop turns
RETURN_SECONDS = 1.0  # after which another broker is given back what could not be dealt with


def _reading_events(app: Any, usual: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What takes messages, where an event's data is no typed value of Celery's, whatever it looks like."""
    deliveries = {name for name, task in app.tasks.items() if isinstance(task, DeliveryTask)}

    def take(message: Any) -> Any:
        try:
            if message.headers["task"] in deliveries:
                keep_decoded(message, untyped_payload(message))
        except (TypeError, KeyError, ValueError, RecursionError):
            pass  # Celery says what is wrong with it
        return usual(message)

    return take


class MeshConsumer(Consumer):
    """The consumer of a service's worker. It tells `app.turning` that it turns, so that its end is seen from outside."""

    def register_with_event_loop(self, hub: Any) -> None:
        """As Celery's; where there is an event loop, a timer of that loop shows that it turns."""
        super().register_with_event_loop(hub)
        self._turned()
        hub.call_repeatedly(TURN_SECONDS, self._turned)

    def perform_pending_operations(self) -> None:
        """As Celery's, which calls it in every turn where there is no event loop."""
        self._turned()
        super().perform_pending_operations()

    def ensure_connected(self, conn: Any) -> Any:
        """As Celery's, which waits for the broker as long as it takes."""
        if self._is_ours():
            self.app.turning.rest("its broker cannot be reached, or was not yet")
        return super().ensure_connected(conn)

    def _turned(self) -> None:
        if self._is_ours():
            self.app.turning.beat()

    def create_task_handler(self, **options: Any) -> Any:
        """As Celery's, with a short way for deliveries, and with their events read as what their JSON says."""
        return fast_path(self, _reading_events(self.app, super().create_task_handler(**options)))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """While a service is deployed step by step, other workers of it may know the task."""
        task_id, name = message.headers["id"], message.headers["task"]
        if not self._is_ours():
            super().on_unknown_task(body, message, exc)
            return
        try:
            self._postpone(message, task_id, name)
        except (*self.connection_errors, RedisError) as error:
            log.warning("redis.away", asked="postpone", reason=str(error))
            self._give_back(message)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Not a task at all."""
        if self._is_ours():
            self._park(message, Failure("it is no task", MALFORMED))
        else:
            super().on_unknown_message(body, message)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task that Celery cannot take as it is."""
        if self._is_ours():
            self._park(message, Failure(f"Celery refuses it: {exc}", type(exc).__name__))
        else:
            super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body that cannot be read."""
        if self._is_ours():
            name = type(exc).__name__
            self._park(message, Failure(f"its body cannot be read: {name}", name))
        else:
            super().on_decode_error(message, exc)

    def _is_ours(self) -> bool:
        """Whether this is a service's worker."""
        return self.app.plumbing is not None

    def _give_back(self, message: Any) -> None:
        """Nobody holds the entry then: our own transport's keeper gives it back. Another broker has to be told."""
        if not hasattr(message.channel, "keeper"):
            give_back = message.reject_log_error
            self.timer.call_after(RETURN_SECONDS, give_back, (log, self.connection_errors, True))

    def _reach(self, message: Any) -> tuple[QueuePlace, redis.Redis, QueueCalls]:
        """Where its entry lies, and how to get there: through its channel, where that is the mesh's own."""
        plumbing, channel = self.app.plumbing, message.channel
        place = queue_place(tag_of(message), plumbing.service)
        if hasattr(channel, "keeper"):
            return place, channel.commands, channel.calls
        return place, plumbing.connections.sync(), unread_calls(plumbing.settings, self.hostname)

    def _postpone(self, message: Any, task_id: str, name: str) -> None:
        plumbing = self.app.plumbing
        place, client, _ = self._reach(message)
        keys = plumbing.ledger.keys
        is_ours = names.is_task_of(task_id, plumbing.service)
        row = read_task_sync(client, keys, task_id) if is_ours else None
        beside = lua.run_sync(client, look_call(keys, plumbing.service, task_id))
        carried = None if place.entry else fields_of(message)
        others = beside.others(name, plumbing.edition())
        call = postpone_call(keys, plumbing.settings, place, task_id, name, row, others, carried)
        answer = lua.run_sync(client, call)
        if answer.verdict == "enough":
            self._park(message, unknown(name))
            return
        log.warning("task.unknown", task_id=task_id, task=name, answer=answer.verdict, wait=answer.ms / 1000)
        message.ack()

    def _park(self, message: Any, failure: Failure) -> None:
        place, client, calls = self._reach(message)
        try:
            if place.entry:
                self._park_entry(place, client, calls, failure)
            else:
                queue, fields, kept = place.queue, fields_of(message), calls.dead_letters_kept
                call = park_carried_call(calls.keys, kept, queue, name_of(message), fields, failure)
                lua.run_sync(client, call)
                why = {"kind": failure.kind, "reason": failure.reason}
                log.error("queue.parked", queue=queue, entry=name_of(message), **why)
            message.ack()
        except (*self.connection_errors, RedisError) as error:
            log.warning("redis.away", asked="park", reason=str(error))
            self._give_back(message)

    def _park_entry(
        self, place: QueuePlace, client: redis.Redis, calls: QueueCalls, failure: Failure
    ) -> None:
        stream = calls.keys.queue(place.queue, place.priority)
        found = client.xrange(stream, place.entry, place.entry)
        if found:
            park(client, calls, place.queue, Read(stream, place.entry, 1, dict(found[0][1])), failure)
