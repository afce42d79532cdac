"""Celery's and billiard's private names that the worker reads or replaces.

They are written here and nowhere else: the classes and functions below give each a name of the mesh's, and `check`
looks at the start of a worker whether the installed libraries have them as these need it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property, partial
from typing import Any

from celery import _state
from celery.app.amqp import AMQP
from celery.backends import redis as celery_redis
from celery.concurrency.asynpool import AsynPool
from celery.utils import threads
from celery.worker.request import Request
from kombu import Connection

from streammesh.errors import IncompatibleLibrary
from streammesh.redisio import internals
from streammesh.redisio.internals import Expected
from streammesh.transport import internals as transport

EXPECTED = (
    Expected("celery._state", {}, ("_task_stack", "default_app")),
    Expected("celery.utils.threads:LocalStack", {}, ("_local",)),
    Expected("celery.utils.threads:Local", {}, ("__storage__", "__ident_func__")),
    Expected("celery.app.amqp:AMQP", {"_create_task_sender": ()}),
    Expected(
        "celery.worker.request:Request",
        {"_announce_revoked": ("reason", "terminated", "signum", "expired"), "_success_was_stored": ()},
        (
            *("_message", "_task", "_type", "_request_dict", "_payload", "_context", "_apply_result"),
            *("_body", "_decoded", "_content_type", "_content_encoding"),
        ),
    ),
    Expected(
        "celery.backends.redis:RedisBackend",
        {"_chord_publish_claim_expires": ("initial_expires", "callback")},
        ("_chord_part_return_script",),
    ),
    Expected(
        "kombu:Connection",
        {"_ensure_connection": ("errback", "max_retries", "interval_start", "interval_step", "interval_max")},
    ),
    Expected(
        "celery.concurrency.asynpool:AsynPool",
        {"_event_process_exit": ("hub", "proc"), "_create_write_handlers": ("hub",), "flush": ()},
        (
            *("_all_inqueues", "_active_writes", "_busy_workers", "_cache"),
            *("outbound_buffer", "sched_strategy", "maintain_pool"),
        ),
    ),
    Expected("billiard.pool:ApplyResult", {}, ("_accepted", "_write_to", "_job")),
    Expected("billiard.process:BaseProcess", {"_is_alive": ()}),
)


MORE = (
    Expected("celery.backends.database:DatabaseBackend", {"_decode_stored_result": ("payload",)}),
)  # with SQLAlchemy


@cache
def check() -> None:
    """Raise IncompatibleLibrary unless the libraries of a worker are as needed; looks once in a process."""
    transport.check()
    if threads.USE_FAST_LOCALS:
        raise IncompatibleLibrary(
            "USE_FAST_LOCALS is set: Celery then keeps current tasks where the mesh does not find them. Unset it"
        )
    internals.require(EXPECTED)


# --- current tasks ----------------------------------------------------------------------------


def has_default_app() -> bool:
    """Whether the process has an app that `@shared_task` and canvas use in every thread."""
    return _state.default_app is not None


def current_tasks() -> Any:
    """The stack that `celery.current_task` looks at."""
    return _state._task_stack


def keep_stack_in(stack: Any, storage: dict[Any, Any], asking: Callable[[], Any]) -> None:
    """Have a stack of Celery's kept in `storage`, by who `asking` says asks; nothing where it is already in such a one."""
    local = stack._local
    if type(local.__storage__) is not type(storage):
        object.__setattr__(local, "__storage__", storage)
        object.__setattr__(local, "__ident_func__", asking)


# --- requests ---------------------------------------------------------------------------------


class CeleryRequest(Request):
    """Celery's request of a task."""

    def is_of(self, message: Any, task: Any) -> None:
        """It is a request of this message and this task: what stands before Celery's own constructor has run."""
        self._message, self._task = message, task
        self._type = self.name = task.name

    def runs_as(self, job: Any) -> None:
        """The pool knows its task as `job`; Celery keeps a weak reference there."""
        self._apply_result = lambda: job

    @property
    def context(self) -> Any:
        """What the task sees as its request."""
        return self._context

    @property
    def embedded(self) -> dict[str, Any]:
        """What lies in a message beside arguments: callbacks, chain, chord."""
        embedded: dict[str, Any] = self._payload[2]
        return embedded

    def read_from_bytes(self, body: bytes, content_type: str, content_encoding: str) -> None:
        """A child of the pool reads the body itself."""
        self._body, self._decoded = body, False
        self._content_type, self._content_encoding = content_type, content_encoding

    def revoked_now(self, *, expired: bool) -> None:
        """It was revoked, or has expired, and Celery is about to say so."""

    def success_was_stored(self) -> bool:
        """Whether a success of it is known, so that it is not run again."""
        return bool(super()._success_was_stored())

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        self.revoked_now(expired=expired)
        super()._announce_revoked(reason, terminated, signum, expired)

    def _success_was_stored(self) -> bool:
        return self.success_was_stored()


class KnownByJob:
    """Over a request that has a `job`, which is what its pool knows of it."""

    job: Any

    def _apply_result(self) -> Any:
        return self.job


def job_of(request: Any) -> Any:
    """What the pool knows of a request's task; None where it does not run."""
    return request._apply_result and request._apply_result()


# --- sending, connecting, results -------------------------------------------------------------


class CeleryAMQP(AMQP):
    """Celery's maker of messages."""

    def sender_of(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        """What sends tasks; `usual` is Celery's own."""
        return usual

    def _create_task_sender(self) -> Callable[..., Any]:
        return self.sender_of(super()._create_task_sender())


class KombuConnection(Connection):
    """A kombu connection with waits of its own between tries, in seconds."""

    first_wait, longer_by, longest_wait = 2.0, 2.0, 30.0

    def _ensure_connection(
        self,
        errback: Any = None,
        max_retries: int | None = None,
        interval_start: float | None = None,
        interval_step: float | None = None,
        interval_max: float | None = None,
        **options: Any,
    ) -> Any:
        return super()._ensure_connection(
            errback,
            max_retries,
            self.first_wait if interval_start is None else interval_start,
            self.longer_by if interval_step is None else interval_step,
            self.longest_wait if interval_max is None else interval_max,
            **options,
        )


class CeleryRedisBackend(celery_redis.RedisBackend):
    """Celery's results in Redis."""

    def claim_seconds(self, initial: int) -> int:
        """How long a worker's claim to send a chord's body stands."""
        return initial

    def part_return(self, usual: Any) -> Any:
        """What counts a chord's part; `usual` is Celery's script."""
        return usual

    def _chord_publish_claim_expires(self, initial_expires: int, callback: Any) -> int:
        return self.claim_seconds(initial_expires)

    @cached_property
    def _chord_part_return_script(self) -> Any:
        return self.part_return(super()._chord_part_return_script)


class StoredResults:
    """Over Celery's backend for databases, which is brought in where there is one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        internals.require(MORE)
        super().__init__(*args, **options)

    def stored_result(self, payload: Any) -> Any:
        """The result in a column."""
        raise NotImplementedError

    def _decode_stored_result(self, payload: Any) -> Any:
        return self.stored_result(payload)


# --- the prefork pool -------------------------------------------------------------------------


class CeleryAsynPool(AsynPool):
    """Celery's prefork pool."""

    _quick_put: Callable[[Any], None]

    def child_ended(self, hub: Any) -> None:
        """The pipe of a child closed, and its exit was looked for once."""

    def writing_begins(self, hub: Any) -> None:
        """The pool is ready to write to its children."""

    def _event_process_exit(self, hub: Any, proc: Any) -> None:
        super()._event_process_exit(hub, proc)
        self.child_ended(hub)

    def _create_write_handlers(self, hub: Any, **options: Any) -> None:
        super()._create_write_handlers(hub, **options)
        self.writing_begins(hub)

    def put_by(self, put: Callable[[Callable[[Any], None], Any], None]) -> None:
        """From now on jobs are accepted by `put`, which is given the usual way to do it."""
        usual = self._quick_put
        self._quick_put = partial(put, usual)

    @property
    def pipes(self) -> tuple[set[int], set[int], set[int]]:
        """The pipes to all children, to those that are busy, and to those that are being written to."""
        return self._all_inqueues, self._busy_workers, self._active_writes

    def begin_in_pipes(self) -> list[Any]:
        """Jobs that lie in the pipes of children that live, and that nobody has begun."""
        return [
            job
            for job in self._cache.values()
            if not job._accepted and job._write_to is not None and job._write_to._is_alive()
        ]

    def know(self, job: Any) -> None:
        """Know of a job that a child is going to begin."""
        self._cache.setdefault(job._job, job)
        self._busy_workers.add(job._write_to.inqW_fd)


def written_in_one_piece(job: Any, most: int) -> None:
    """Have a job and its length, which is four bytes, written by one call where that is no more than `most` bytes."""
    header, body, size = job._payload
    if len(header) + size <= most:
        job._payload = memoryview(bytes(header) + bytes(body)), memoryview(b""), 0
