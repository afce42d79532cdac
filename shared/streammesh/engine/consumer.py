"""Celery's consumer, where nothing that it cannot run is dropped.

Stock Celery acknowledges, and so loses, what it does not know or cannot read. Here a task that this
worker does not know goes back for later, and what can never be run becomes a dead letter.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery.worker.consumer import Consumer

from streammesh import lua
from streammesh.engine.parking import park
from streammesh.engine.places import queue_place
from streammesh.engine.postponing import postpone_call, unknown
from streammesh.engine.queue_calls import Read
from streammesh.rows import parse_task

log = structlog.get_logger(__name__)


class MeshConsumer(Consumer):
    """The consumer of a service's worker."""

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """While a service is deployed step by step, other workers of it may know the task."""
        task_id, name = message.headers["id"], message.headers["task"]
        if not self._is_ours(message):
            super().on_unknown_task(body, message, exc)
            return
        try:
            self._postpone(message, task_id, name)
        except self.connection_errors as error:
            # Nobody holds the entry then, so the keeper gives it back.
            log.warning("redis.away", asked="postpone", reason=str(error))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Not a task at all."""
        if self._is_ours(message):
            self._park(message, "Malformed", "it is no task")
        else:
            super().on_unknown_message(body, message)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task that Celery cannot take as it is."""
        if self._is_ours(message):
            self._park(message, type(exc).__name__, f"Celery refuses it: {exc}")
        else:
            super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body that cannot be read."""
        if self._is_ours(message):
            self._park(message, type(exc).__name__, f"its body cannot be read: {type(exc).__name__}")
        else:
            super().on_decode_error(message, exc)

    def _is_ours(self, message: Any) -> bool:
        """Whether it came through the stream transport, in a service's worker."""
        return hasattr(message.channel, "keeper") and self.app.plumbing is not None

    def _postpone(self, message: Any, task_id: str, name: str) -> None:
        plumbing, client = self.app.plumbing, message.channel.commands
        keys = plumbing.ledger.keys
        place = queue_place(message.delivery_tag, plumbing.service)
        stored = client.hgetall(keys.task(task_id))
        row = parse_task(task_id, stored) if b"meta" in stored else None
        call = postpone_call(keys, plumbing.settings, place, task_id, name, row)
        answer = lua.run_sync(client, call)
        if answer.verdict == "enough":
            failure = unknown(name)
            self._park(message, failure.kind, failure.reason)
            return
        log.warning("task.unknown", task_id=task_id, task=name, answer=answer.verdict, wait=answer.ms / 1000)
        message.ack()

    def _park(self, message: Any, kind: str, reason: str) -> None:
        channel, place = message.channel, queue_place(message.delivery_tag, self.app.plumbing.service)
        stream = channel.keys.queue(place.queue, place.step)
        try:
            found = channel.commands.xrange(stream, place.entry, place.entry)
            if found:
                read = Read(stream, place.entry, 1, dict(found[0][1]))
                park(channel.commands, channel.calls, place.queue, read, kind, reason)
            message.ack()
        except self.connection_errors as error:
            log.warning("redis.away", asked="park", reason=str(error))
