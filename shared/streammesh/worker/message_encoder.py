"""Encodes deliveries as Celery queue entries: Celery's own publisher makes one template per
subscription, and what differs from event to event is filled in."""

from __future__ import annotations

from functools import lru_cache

from streammesh.keys import PRIORITY, Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Delivery
from streammesh.tasks.handoff import Encoded
from streammesh.transport.codec import EVENT_SHOWN, encode
from streammesh.worker.app import MeshCelery
from streammesh.worker.message_capture import CapturingProducer

_TASK = "0c0c0c0c-1111-4222-8333-444444444444"  # stands for the task id in a template
_ENVELOPE = "@@the-envelope@@"  # stands for the event in a template
HARD_AFTER_SOFT = 5.0  # seconds a handler has to react to its soft limit before it is killed


class Encoder:
    """Makes queue entries for subscriptions. Not for several threads at once."""

    def __init__(self, app: MeshCelery, settings: MeshSettings) -> None:
        self._app, self._settings, self._keys = app, settings, Keys(settings.namespace)
        self._producer = CapturingProducer()
        self._template = lru_cache(maxsize=4096)(self._make_template)

    def encode(self, delivery: Delivery, envelope: bytes, priority: int) -> Encoded:
        """One delivery of an event, `envelope` being its JSON, ready to be queued."""
        wants = delivery.subscription
        level = priority if wants.priority is None else wants.priority
        queue, head, tail, around_id = self._template(wants.queue_name, wants.task, wants.timeout, level)
        return Encoded(delivery, queue, around_id, head + envelope + tail, self._stream_priority(level))

    def _stream_priority(self, level: int) -> int:
        """Another broker orders what it carries; what is sent to it waits in one stream."""
        return PRIORITY if self._settings.broker_url else level

    def _make_template(
        self, queue: str, task: str, timeout: float | None, priority: int
    ) -> tuple[str, bytes, bytes, tuple[bytes, ...]]:
        amqp = self._app.amqp
        message = amqp.as_task_v2(
            _TASK,
            task,
            [_ENVELOPE],
            {},
            time_limit=None if timeout is None else timeout + HARD_AFTER_SOFT,
            soft_time_limit=timeout,
            argsrepr=EVENT_SHOWN,  # payloads stay out of logs and Flower
            kwargsrepr="{}",
            ignore_result=True,  # the outcome is in the ledger
        )
        amqp.send_task_message(
            self._producer,
            task,
            message,
            queue=queue,
            declare=[],
            retry=False,
            priority=priority,
            serializer=self._app.conf.task_serializer,
        )
        [(_, sent)] = self._producer.take()
        fields = encode(sent)
        head, tail = fields[b"b"].split(f'"{_ENVELOPE}"'.encode())
        return (
            self._keys.queue(queue, self._stream_priority(priority)),
            head,
            tail,
            tuple(fields[b"h"].split(_TASK.encode())),
        )
