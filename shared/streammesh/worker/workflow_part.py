"""`Service.part`: functions that are parts of workflows, and stay what they are for types and for a direct call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from celery.canvas import Signature

from streammesh.errors import InvalidManifest
from streammesh.subscriptions.declaration import calling_place, task_part
from streammesh.worker.around_handlers import said_at
from streammesh.worker.workflow import WorkflowTasks

P = ParamSpec("P")
R = TypeVar("R")
Returned = TypeVar("Returned", covariant=True)


class WorkflowPart(Protocol[P, Returned]):
    """A part of workflows: called, it is the function that it was; `s` and `si` make signatures of it for Celery's canvas."""

    name: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Returned: ...

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature, which is given the result of the part before it as its first argument."""

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature, which is given nothing of the part before it."""

    def signature(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with `args=`, `kwargs=` and options of its own."""


class PartOptions(TypedDict, total=False):
    """Options of a part: Celery's, of its task."""

    acks_late: bool
    autoretry_for: Sequence[type[BaseException]]
    compression: str
    default_retry_delay: float
    dont_autoretry_for: Sequence[type[BaseException]]
    expires: float
    ignore_result: bool
    max_retries: int | None
    priority: int
    queue: str
    rate_limit: str
    reject_on_worker_lost: bool
    resultrepr_maxsize: int
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool
    retry_kwargs: dict[str, Any]
    serializer: str
    soft_time_limit: float
    store_errors_even_if_ignored: bool
    throws: Sequence[type[BaseException]]
    time_limit: float
    track_started: bool


class PartDecorator(Protocol):
    """What makes a part of a function."""

    def __call__(self, function: Callable[P, R], /) -> WorkflowPart[P, R]: ...


class WorkflowParts:
    """What of a service is about workflows."""

    name: str
    _parts: WorkflowTasks

    @overload
    def part(self, function: Callable[P, R], /) -> WorkflowPart[P, R]: ...
    @overload
    def part(self, **options: Unpack[PartOptions]) -> PartDecorator: ...
    def part(self, function: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Decorate a part of a workflow: a Celery task (`.s()`, `.si()`) that may take a `ctx`.

        Through `ctx` it pushes progress for the delivery that the workflow belongs to, and publishes
        events that leave together with the delivery's end. `options` are Celery's task options. Called directly it is the
        function that it was. Raises InvalidHandler.
        """
        here = calling_place()
        with said_at(here, function):
            for option in options:
                if option not in PartOptions.__annotations__:
                    near = get_close_matches(option, PartOptions.__annotations__, 1)
                    raise InvalidManifest(
                        f"part() has no option {option!r}{f'; did you mean {near[0]!r}?' if near else ''}"
                    )

        def decorate(decorated: Callable[..., Any]) -> Any:
            with said_at(here, decorated):
                if not callable(decorated):
                    raise InvalidManifest(f"{decorated!r:.80} is no function")
                if inspect.iscoroutinefunction(decorated):
                    raise InvalidManifest("a part of a workflow is a plain `def`: Celery does not await it")
                self._check_name(f"{self.name}.{task_part(decorated.__name__)}")
                return self._parts.part(decorated, **options)

        return decorate if function is None else decorate(function)

    def _check_name(self, task: str) -> None:
        if task in self._parts.app.tasks:
            raise InvalidManifest(f"two functions have the name {task!r}; give one of them another")
