"""Ties an event to a handler's arguments: the payload as the handler's own model, and the context. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from streammesh.errors import Reject
from streammesh.events.envelope import Event
from streammesh.tasks.context import Context


@dataclass(frozen=True, slots=True)
class Binding:
    """How one handler is called."""

    handler: Callable[..., Any]
    is_async: bool
    payload: TypeAdapter[Any] | None  # None: the data as it is
    gives_event: bool  # the first argument is the whole Event
    takes_payload: bool
    context_name: str | None

    def arguments(self, event: Event, context: Context) -> tuple[list[Any], dict[str, Any]]:
        """The handler's arguments for one event. Raises Reject when the payload does not fit its model."""
        args = []
        if self.takes_payload:
            args.append(event if self.gives_event else self._payload_of(event))
        return args, ({self.context_name: context} if self.context_name else {})

    def _payload_of(self, event: Event) -> Any:
        if self.payload is None:
            return event.data
        try:
            return self.payload.validate_python(event.data)
        except ValidationError as error:
            found = "; ".join(
                f"/{'/'.join(str(part) for part in e['loc'])}: {e['msg']}"
                for e in error.errors(include_url=False, include_input=False)[:10]
            )
            raise Reject(f"the payload does not fit {self.handler.__name__}: {found}") from None

    def schema(self) -> dict[str, Any] | None:
        """JSON Schema of the payload, None when the handler takes anything."""
        return self.payload.json_schema() if self.payload else None


def context_parameter(function: Callable[..., Any]) -> str | None:
    """The name of the parameter that gets the Context: annotated so, or called `ctx`. None if there is none."""
    hints = get_type_hints(function)
    for name in inspect.signature(function).parameters:
        if hints.get(name) is Context or (name == "ctx" and name not in hints):
            return name
    return None


def bind(handler: Callable[..., Any]) -> Binding:
    """Read a handler's signature: `(payload, ctx)`, either of them optional.

    The payload's annotation decides: a pydantic model or any type is validated, `Event` gets the whole
    envelope, no annotation, `dict` or `Any` gets the data as it is. Raises TypeError for a signature that
    cannot be called.
    """
    hints = get_type_hints(handler)
    context_name, payload_name = context_parameter(handler), None
    for name, parameter in inspect.signature(handler).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"{handler.__qualname__}: a handler takes a payload and a Context, not *{name}")
        if name == context_name:
            continue
        if payload_name is None:
            payload_name = name
        elif parameter.default is parameter.empty:
            raise TypeError(f"{handler.__qualname__}: nothing is known to give for {name!r}")
    wanted = hints.get(payload_name, Any) if payload_name else Any
    plain = wanted in (Any, dict, Event) or str(wanted) in ("dict[str, typing.Any]", "dict[str, Any]")
    return Binding(
        handler=handler,
        is_async=inspect.iscoroutinefunction(handler),
        payload=None if plain else TypeAdapter(wanted),
        gives_event=wanted is Event,
        takes_payload=payload_name is not None,
        context_name=context_name,
    )
