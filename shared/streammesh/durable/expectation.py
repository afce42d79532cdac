"""What is expected: a run that waits for an event, and calls the handler if it did not come in time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from streammesh import names
from streammesh.durable.records import LONGEST_WAIT
from streammesh.errors import InvalidManifest, Reject
from streammesh.events.envelope import Event
from streammesh.subscriptions.declaration import duration, never_matching
from streammesh.subscriptions.filters import value_at
from streammesh.tasks.context import Context
from streammesh.tasks.handler import Binding

HIDDEN = "expectation_context"  # what the run is given by where the handler takes no Context


@dataclass(frozen=True, slots=True)
class Expectation:
    """An event of `type` is expected `seconds` after one of `after`, with at `path` what that one has at `own_path`."""

    type: str
    seconds: float
    own_path: str
    path: str

    @classmethod
    def declared(
        cls, event_type: object, after: object, within: object, key: str | Mapping[str, str]
    ) -> Expectation:
        """As a team wrote it. Raises InvalidManifest for what cannot be."""
        if not isinstance(event_type, str) or not names.is_type(event_type) or names.is_glob(event_type):
            raise InvalidManifest(f"{event_type!r:.80}: what is expected is one event type, and no glob")
        if not isinstance(after, str):
            raise InvalidManifest(
                f"after={after!r:.80}: should be the type of the events that it is expected after"
            )
        seconds = duration("within", within).total_seconds()
        if seconds >= LONGEST_WAIT:
            raise InvalidManifest(
                f"within={within!r:.80}: should be shorter than {LONGEST_WAIT / 86_400:.0f} days"
            )
        own, other = _paths(key, after, event_type)
        for path, of in ((own, after), (other, event_type)):
            for problem in never_matching({path: None}, of):
                raise InvalidManifest(f"key: {problem.removeprefix('where')}")
        return cls(event_type, seconds, own, other)

    @property
    def waits(self) -> dict[str, tuple[str, ...]]:
        """What its subscription waits for."""
        return {self.type: (self.path,)}

    def match(self, event: Event) -> dict[str, Any]:
        """What an event must carry to be the one that is expected after `event`. Raises Reject where nothing stands there."""
        value = value_at(event, self.own_path)
        if not isinstance(value, str | int | float | bool):
            raise Reject(
                f"nothing tells which {self.type} is expected: at {self.own_path} stands no text, number or boolean"
            )
        return {self.path: value}

    def around(self, binding: Binding) -> Binding:
        """The handler as the run calls it: after the time is over, and not at all where the event came."""
        handler, given = binding.handler, binding.context_name
        name = given or HIDDEN

        def wait(kwargs: dict[str, Any]) -> Any:
            context: Context = kwargs[name] if given else kwargs.pop(name)
            return context.run.expect(self.type, self.match(context.event), self.seconds)

        if inspect.iscoroutinefunction(handler):

            @functools.wraps(handler)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                came = await wait(kwargs)
                return await handler(*args, **kwargs) if came is None else _told(came)

            return replace(binding, handler=awaited, context_name=name)

        @functools.wraps(handler)
        def waited(*args: Any, **kwargs: Any) -> Any:
            came = wait(kwargs)
            return handler(*args, **kwargs) if came is None else _told(came)

        return replace(binding, handler=waited, context_name=name)


def _told(came: Event) -> dict[str, Any]:
    """The result of a run whose event came."""
    return {"came": {"id": came.id, "source": came.source, "type": came.type}}


def _paths(key: object, after: str, event_type: str) -> tuple[str, str]:
    """The path in the event before, and in the one that is expected."""
    if isinstance(key, str):
        return key, key
    if isinstance(key, Mapping) and set(key) == {after, event_type}:
        own, other = key[after], key[event_type]
        if isinstance(own, str) and isinstance(other, str):
            return own, other
    raise InvalidManifest(
        f"key={key!r:.120}: should be a path such as 'data.order_id', or one for each type: "
        f"{{{after!r}: 'data.id', {event_type!r}: 'data.order_id'}}"
    )
