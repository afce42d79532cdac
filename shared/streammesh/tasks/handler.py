"""Ties an event to a handler's arguments: the payload as the handler's own model, and the context. Pure."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from streammesh.errors import Misfit
from streammesh.events.envelope import Event
from streammesh.tasks.context import Context

_MADE = "a handler is given its payload, a Context, and what a @service.resource above it makes ({})"
_ADVICE = {name: f"annotate it `{name}: Context`" for name in ("ctx", "context", "c")}


@dataclass(frozen=True, slots=True)
class Binding:
    """How one handler is called."""

    handler: Callable[..., Any]
    is_async: bool
    payload: TypeAdapter[Any] | None  # None: the data as it is
    gives_event: bool  # the first argument is the whole Event
    payload_name: str | None
    context_name: str | None
    context_first: bool = False  # the payload then has to be given by name too
    resources: tuple[tuple[str, Any], ...] = ()  # (parameter, type) of each that it is given

    def arguments(self, event: Event, context: Context) -> tuple[list[Any], dict[str, Any]]:
        """The handler's arguments for one event. Raises Misfit when the payload does not fit its model."""
        kwargs: dict[str, Any] = {self.context_name: context} if self.context_name else {}
        if self.payload_name is None:
            return [], kwargs
        payload = event if self.gives_event else self._payload_of(event)
        if self.context_first:
            return [], {self.payload_name: payload, **kwargs}
        return [payload], kwargs

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
            what = f"the payload of {event.type} {event.id} does not fit {self.handler.__name__}"
            raise Misfit(f"{what}: {found}") from None

    def schema(self) -> dict[str, Any] | None:
        """Return the JSON Schema of the payload; None when the handler takes anything, or has no such schema."""
        try:
            return self.payload.json_schema() if self.payload else None
        except PydanticInvalidForJsonSchema:  # a type that validates and cannot be described
            return None


def context_parameter(function: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that gets the Context: annotated so, or called `ctx`; None without one.

    Raises TypeError when the annotations cannot be read or leave open whether a Context is given.
    """
    hints = _annotations(function)
    found = None
    for name, parameter in inspect.signature(function).parameters.items():
        hint = _plain(hints.get(name))
        if Context in get_args(hint):
            raise TypeError(f"{name}: a Context is always given; annotate it `{name}: Context`")
        if hint is Context or (name == "ctx" and name not in hints):
            if found:
                raise TypeError(f"{found} and {name} are both a Context; one is given")
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise TypeError(f"{name} is given by name; it cannot stand before `/`")
            found = name
    return found


def bind(handler: Callable[..., Any], resources: Container[Any] = ()) -> Binding:
    """Read a handler's signature: `(payload, ctx)`, either of them optional, and resources, known by their types.

    The payload's annotation decides: a pydantic model or any type is validated, `Event` gets the whole
    envelope, no annotation, `dict` or `Any` gets the data as it is. Raises TypeError, with what to write
    instead, for what cannot be called with a payload and a Context.
    """
    _refuse_what_is_no_function(handler)
    hints = _annotations(handler)
    context_name = context_parameter(handler)
    payload: inspect.Parameter | None = None
    given: list[tuple[str, Any]] = []
    for name, parameter in inspect.signature(handler).parameters.items():
        if name == context_name:
            continue
        wanted = _plain(hints.get(name))
        if _is_known(wanted, resources):
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise TypeError(f"{name} is given by name; it cannot stand before `/`")
            given.append((name, wanted))
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise TypeError(
                f"a handler takes a payload and a Context, not {stars}{name}"
                " (a decorator in between should use functools.wraps)"
            )
        has_default = parameter.default is not parameter.empty
        if payload is None and parameter.kind is not parameter.KEYWORD_ONLY:
            if name in ("self", "cls"):
                raise TypeError(f"a handler is a function: nothing would make the {name!r} of a method")
            payload = parameter
        elif payload is None and not has_default:
            raise TypeError(
                f"{name} can be given by name alone; the payload is the first parameter, before `*`"
            )
        elif (
            not has_default
            or parameter.kind is not parameter.KEYWORD_ONLY
            or _plain(hints.get(name)) is Event
        ):
            advice = _ADVICE.get(name, _MADE.format(getattr(wanted, "__name__", "its type")))
            raise TypeError(f"nothing is known to give for {name!r}: {advice}")
    wanted = hints.get(payload.name, Any) if payload else Any
    if payload and Event in get_args(wanted):
        raise TypeError(f"{payload.name}: the event is always there; annotate it `{payload.name}: Event`")
    is_plain = wanted in (Any, dict, Event) or str(wanted) in ("dict[str, typing.Any]", "dict[str, Any]")
    return Binding(
        handler=handler,
        is_async=inspect.iscoroutinefunction(handler),
        payload=None if is_plain else _adapter(payload.name if payload else "", wanted),
        gives_event=wanted is Event,
        payload_name=payload.name if payload else None,
        context_name=context_name,
        context_first=_stands_first(handler, context_name, given),
        resources=tuple(given),
    )


def _is_known(wanted: Any, resources: Container[Any]) -> bool:
    try:
        return wanted is not None and wanted in resources
    except TypeError:  # an annotation that has no hash
        return False


def _stands_first(handler: Callable[..., Any], context: str | None, given: list[tuple[str, Any]]) -> bool:
    """Whether the first parameter is given by name: then the payload has to be, too."""
    first = next(iter(inspect.signature(handler).parameters), None)
    return first is not None and (first == context or first in dict(given))


def _refuse_what_is_no_function(handler: Callable[..., Any]) -> None:
    if isinstance(handler, functools.partial):
        raise TypeError("a functools.partial has no name and no annotations; write a function around it")
    if isinstance(handler, staticmethod | classmethod) or not inspect.isroutine(handler):
        raise TypeError(f"a handler is a function, not {handler!r:.80}")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise TypeError("a handler returns its result; this one has `yield` and would never run")
    if not inspect.iscoroutinefunction(handler) and _is_async(inspect.unwrap(handler)):
        raise TypeError(
            "a decorator wraps this `async def` in a plain function, so nobody would await it;"
            " its wrapper should be `async def` too"
        )


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"its annotations cannot be read: {error}; import it for real, not under TYPE_CHECKING,"
            " and at the top of the module"
        ) from None
    except Exception as error:  # whatever an annotation may be
        raise TypeError(f"its annotations cannot be read: {error}") from None


def _plain(hint: Any) -> Any:
    """Return a hint without what `Annotated` says about it."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _adapter(name: str, wanted: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(wanted)
    except Exception as error:  # pydantic's own, and what a type's own hooks raise
        reason = str(error).partition(". ")[0].partition("\n")[0] or type(error).__name__
        raise TypeError(f"pydantic cannot validate the annotation of {name!r}: {reason}") from None
