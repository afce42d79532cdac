"""Makes a service's Celery app: the shared configuration, nothing connected, logging left alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

from celery import Celery, Task, signals

from streammesh import logs
from streammesh.health import Pulse
from streammesh.settings import MeshSettings, mesh_settings
from streammesh.shards import other_shards
from streammesh.subscriptions.manifest import Manifest
from streammesh.transport.codec import Explicit
from streammesh.transport.transport import install as install_transport
from streammesh.worker import internals, message_capture
from streammesh.worker.config import celery_config
from streammesh.worker.flower_view import fit_flower
from streammesh.worker.reconnection import SteadyAMQP
from streammesh.worker.resources import Plumbing

HIDDEN = "<hidden>"


class MeshAMQP(SteadyAMQP):
    """Celery's message maker, which shows no arguments: headers are seen in logs, events and Flower."""

    def as_task_v2(self, *args: Any, **options: Any) -> Any:
        """As Celery's, with arguments blanked where the caller did not say how to show them."""
        for name in ("argsrepr", "kwargsrepr"):
            if options.get(name) is None:
                options[name] = HIDDEN
        return super().as_task_v2(*args, **options)

    def sender_of(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        """As Celery's, where priority 0 is a priority and not the lack of one."""
        default = self.app.conf.task_default_priority

        def send_task_message(*args: Any, priority: int | None = None, **options: Any) -> Any:
            wanted = default if priority is None else Explicit(priority)
            return usual(*args, priority=wanted, **options)

        return send_task_message


class MeshTask(Task):
    """What plain tasks are."""

    abstract = True
    Request = "streammesh.worker.request:PlainRequest"


class MeshCelery(Celery):
    """A Celery app whose sent tasks can be captured (see `message_capture.py`) and show no payloads.

    With `plumbing` and `manifest` it is a service's, and its worker a member of the mesh; see `member.py`.
    """

    plumbing: Plumbing | None = None
    manifest: Callable[[], Manifest]

    amqp_cls = MeshAMQP
    control_cls = "streammesh.worker.remote_control:MeshControl"
    task_cls = "streammesh.worker.app:MeshTask"
    mesh_settings: Callable[[], MeshSettings] = staticmethod(mesh_settings)
    turning: Pulse  # of the consumer, where the app runs as a worker; see `consumer.py`
    ticking: Pulse  # of Beat
    is_worker = False  # whether this process runs the app's tasks, and so outlasts any absence of Redis

    @cached_property
    def other_shards(self) -> list[MeshCelery]:
        """Apps of the mesh's other shards, for who looks at all of them; none in a process that serves one shard."""
        settings = self.mesh_settings()
        whole = settings.whole
        if whole.shards == 1 or whole.shard is not None:
            return []
        return [make_app(str(self.main), whole.of_shard(number)) for number in other_shards(settings)]

    @cached_property
    def Worker(self) -> Any:  # noqa: N802 (Celery's name)
        """Celery's worker, which joins the mesh where the app is a service's."""
        return self.subclass_with_self("streammesh.worker.member:MeshWorker")

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
    if settings is not None:
        app.mesh_settings = lambda: settings
    app.turning, app.ticking = Pulse(), Pulse()
    app.add_defaults(
        lambda: celery_config(service, app.mesh_settings()) | {"worker_prefetch_multiplier": prefetch}
    )
    return app


def set_current_app(app: MeshCelery) -> None:
    """Make this app the one that `@shared_task` and canvas use in this thread, as Celery does with each app it makes;
    in other threads it is the first of a process."""
    app.set_current()
    if not internals.has_default_app():
        app.set_default()


@signals.setup_logging.connect
def _leave_logging_alone(**_: Any) -> None:
    """Being connected is enough: Celery then sets up no logging of its own."""


@signals.beat_init.connect
def _log_as_the_mesh(sender: Any = None, **_: Any) -> None:
    """`celery beat` of a service logs as its worker does."""
    app = getattr(sender, "app", None)
    if isinstance(app, MeshCelery) and app.plumbing is not None:
        logs.configure(app.plumbing.settings, app.plumbing.service)


@signals.import_modules.connect
def _before_flower_answers(sender: Any = None, **_: Any) -> None:
    """Flower loads its app's modules, and then opens its port."""
    if isinstance(sender, MeshCelery):
        fit_flower(sender)
