"""Makes a service's Celery app: the shared configuration, nothing connected, logging left alone."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from celery import Celery, Task, signals

from streammesh.settings import MeshSettings, mesh_settings
from streammesh.transport.codec import Explicit
from streammesh.transport.transport import install as install_transport
from streammesh.worker import message_capture
from streammesh.worker.config import celery_config
from streammesh.worker.reconnection import SteadyAMQP

HIDDEN = "<hidden>"


class MeshAMQP(SteadyAMQP):
    """Celery's message maker, which shows no arguments: headers are seen in logs, events and Flower."""

    def as_task_v2(self, *args: Any, **options: Any) -> Any:
        """As Celery's, with arguments blanked where the caller did not say how to show them."""
        for name in ("argsrepr", "kwargsrepr"):
            if options.get(name) is None:
                options[name] = HIDDEN
        return super().as_task_v2(*args, **options)

    def _create_task_sender(self) -> Any:
        """As Celery's, where priority 0 is a priority and not the lack of one."""
        usual, default = super()._create_task_sender(), self.app.conf.task_default_priority

        def send_task_message(*args: Any, priority: int | None = None, **options: Any) -> Any:
            wanted = default if priority is None else Explicit(priority)
            return usual(*args, priority=wanted, **options)

        return send_task_message


class MeshTask(Task):
    """What plain tasks are."""

    abstract = True
    Request = "streammesh.worker.request:PlainRequest"


class MeshCelery(Celery):
    """A Celery app whose sent tasks can be captured (see `capture.py`) and show no payloads."""

    amqp_cls = MeshAMQP
    task_cls = "streammesh.worker.app:MeshTask"
    is_worker = False  # whether this process runs the app's tasks, and so outlasts any absence of Redis

    def producer_or_acquire(self, producer: Any = None) -> AbstractContextManager[Any]:
        """As Celery's, but the capturing producer wins where a context captures."""
        captured = message_capture.current()
        if captured is not None:
            return nullcontext(captured)
        held: AbstractContextManager[Any] = super().producer_or_acquire(producer)
        return held


def make_app(service: str, settings: MeshSettings | None = None, *, prefetch: int = 1) -> MeshCelery:
    """The Celery app of `service`; it reads the settings at first use and connects when it has to."""
    install_transport()
    app = MeshCelery(service, set_as_current=False, strict_typing=False)
    app.add_defaults(
        lambda: celery_config(service, settings or mesh_settings()) | {"worker_prefetch_multiplier": prefetch}
    )
    return app


@signals.setup_logging.connect
def _leave_logging_alone(**_: Any) -> None:
    """Being connected is enough: Celery then sets up no logging of its own."""
