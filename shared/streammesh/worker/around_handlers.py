"""What a service declares around its handlers: resources that they share, hooks before and after each, what it publishes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import PydanticUserError, TypeAdapter

from streammesh import names
from streammesh.errors import InvalidManifest
from streammesh.subscriptions.declaration import InvalidHandler, SourceLine, calling_place
from streammesh.worker.hooks import Hooks, check_hook
from streammesh.worker.resource_function import Resource, resource

F = TypeVar("F", bound=Callable[..., Any])


class AroundHandlers:
    """The part of a service that is not its handlers."""

    def __init__(self) -> None:
        self._makers: dict[Any, Resource] = {}  # by the type that handlers ask for
        self._hooks = Hooks()
        self._publishes: dict[str, dict[str, Any] | None] = {}

    def publishes(self, event_type: str, model: Any = None) -> None:
        """Say that this service publishes events of a type, with `data` that is a `model` (any type that pydantic knows).

        It changes nothing about publishing: `GET /v1/types` and `/asyncapi.json` tell it, and `streammesh check
        --against` compares it with what others read. Raises InvalidHandler for what is no type or no model.
        """
        with said_at(calling_place()):
            if not isinstance(event_type, str) or not names.is_type(event_type):
                raise InvalidManifest(f"{event_type!r:.80} is not an event type")
            schema = None if model is None else TypeAdapter(model).json_schema(mode="serialization")
        self._publishes[event_type] = schema

    def resource(self, function: F) -> F:
        """Decorate a function that makes what handlers share: a pool, a client. It is made once in each process.

        Handlers, and resources below it, are given it by its return annotation. It may be `async def` or `def`, return it,
        or yield it once and tidy up after: on drain. It stands above the handlers that ask for it. Raises InvalidHandler.
        """
        with said_at(calling_place(), function):
            made = resource(function, self._makers)
        self._makers[made.gives] = made
        return function

    def before(self, hook: F) -> F:
        """Decorate what is called with the Context before each attempt of each handler. What it raises fails the attempt.

        Hooks are called where the handler's event loop is, `def` ones too, and should not block it.
        """
        with said_at(calling_place(), hook):
            check_hook("before", hook)
        self._hooks.before.append(hook)
        return hook

    def after(self, hook: F) -> F:
        """Decorate what is called with the Context and the result of a handler that returned. What it raises fails the attempt."""
        with said_at(calling_place(), hook):
            check_hook("after", hook)
        self._hooks.after.append(hook)
        return hook

    def on_failure(self, hook: F) -> F:
        """Decorate what is called with the Context and the error of an attempt that failed. What it raises is logged."""
        with said_at(calling_place(), hook):
            check_hook("on_failure", hook)
        self._hooks.on_failure.append(hook)
        return hook


@contextmanager
def said_at(here: SourceLine, handler: Callable[..., Any] | None = None) -> Iterator[None]:
    """Within, what cannot be taken is raised with the line at which it is written, and the handler's name."""
    try:
        yield
    except (InvalidManifest, TypeError, PydanticUserError) as error:
        whose = f"{name}: " if (name := getattr(handler, "__qualname__", "")) else ""
        raise InvalidHandler(f"{here}: {whose}{error}") from None
