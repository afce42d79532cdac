"""Ties several events to a handler's arguments: `batch=` gives it a list."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args, get_origin, get_type_hints

from streammesh.errors import Failed
from streammesh.events.envelope import Event
from streammesh.tasks.context import Context
from streammesh.tasks.handler import Binding, bind, context_parameter

ADVICE = "batch= gives the handler a list: annotate its first parameter, as `rows: list[Row]` or `events: list[Event]`"


class BatchContext(Context):
    """The context of an attempt that has several events."""

    payloads: Sequence[Any] = ()

    def give(self, tasks: Sequence[str], payloads: Sequence[Any]) -> None:
        """Set what the handler is given, in the order of its events, and of which tasks.

        Ids of what it publishes are made of all of them: the run may go on with others once some have succeeded.
        """
        self._beside, self.payloads = tuple(tasks), payloads


@dataclass(frozen=True, slots=True)
class BatchBinding(Binding):
    """How a handler is called that takes a list; the annotation's member decides as that of other handlers does."""

    def arguments(self, event: Event, context: Context) -> tuple[list[Any], dict[str, Any]]:
        """Return the handler's arguments; where no batch stands behind them, with a list of the one event."""
        payloads = context.payloads if isinstance(context, BatchContext) else [self.payload_for(event)]
        kwargs: dict[str, Any] = {self.context_name: context} if self.context_name else {}
        assert self.payload_name is not None
        if self.context_first:
            return [], {self.payload_name: [*payloads], **kwargs}
        return [[*payloads]], kwargs

    def payload_for(self, event: Event) -> Any:
        """Return what of one event the handler is given. Raises Misfit when it does not fit its model."""
        return event if self.gives_event else self._payload_of(event)


def bind_batch(handler: Callable[..., Any], resources: Container[Any] = ()) -> BatchBinding:
    """As `bind`, of a handler that takes a list. Raises TypeError, with what to write instead."""
    context = context_parameter(handler)
    hints = get_type_hints(handler, include_extras=True)
    given = [name for name in inspect.signature(handler).parameters if name != context]
    name = next((one for one in given if not _is_resource(hints.get(one), resources)), None)
    wanted = hints.get(name) if name else None
    if name is None or get_origin(wanted) is not list:
        raise TypeError(ADVICE)
    alone = _told_apart(handler, name)
    alone.__annotations__ = {**hints, name: get_args(wanted)[0]}
    found = bind(alone, resources)
    return BatchBinding(**{one.name: getattr(found, one.name) for one in fields(Binding)})


def _is_resource(hint: Any, resources: Container[Any]) -> bool:
    try:
        return hint is not None and hint in resources
    except TypeError:  # an annotation that has no hash
        return False


def _told_apart(handler: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return the handler so that what it returns as Failed is raised, and of a single event that event's own error is."""
    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            count = len(kwargs[name] if name in kwargs else args[0])
            try:
                return _raised(await handler(*args, **kwargs))
            except Failed as failed:
                raise _of(failed, count) from None

        return awaited

    @functools.wraps(handler)
    def called(*args: Any, **kwargs: Any) -> Any:
        count = len(kwargs[name] if name in kwargs else args[0])
        try:
            return _raised(handler(*args, **kwargs))
        except Failed as failed:
            raise _of(failed, count) from None

    return called


def _raised(result: Any) -> Any:
    if isinstance(result, Failed):
        raise result
    return result


def _of(failed: Failed, count: int) -> Exception:
    """What is raised for some events of a batch of so many."""
    wrong = [index for index in failed.errors if not isinstance(index, int) or not 0 <= index < count]
    if wrong or not failed.errors:
        named = f"the event {wrong[0]!r:.40}" if wrong else "no event"
        return ValueError(f"Failed names {named} of a batch of {count}: write {{index: error}}")
    return failed.error(0) if count == 1 else failed
