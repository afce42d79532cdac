"""What handlers are given beside payload and context: a resource, known by the type that its function returns. Pure."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

_ITERATORS = (Iterator, Generator, AsyncIterator, AsyncGenerator)
_NOT_A_TYPE = "say what it makes with its return annotation, such as `-> Pool` or `-> AsyncIterator[Pool]`"


@dataclass(frozen=True, slots=True)
class Resource:
    """One function that makes a resource: it returns it, or yields it once and tidies up after that."""

    make: Callable[..., Any]
    gives: Any  # the type by which handlers ask for it
    is_async: bool
    yields: bool
    needs: tuple[tuple[str, Any], ...]  # parameters that are resources themselves

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.make, "__name__", self.make))


def resource(function: Callable[..., Any], known: dict[Any, Resource]) -> Resource:
    """Read what a function makes, and which of the `known` ones it needs. Raises TypeError, with what to write instead."""
    if not inspect.isroutine(function):
        raise TypeError(f"a resource is a function, not {function!r:.80}")
    hints = hints_of(function)
    wanted = hints.get("return", type(None))
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if yields:
        if get_origin(wanted) not in _ITERATORS:
            raise TypeError(_NOT_A_TYPE)
        wanted = get_args(wanted)[0]
    if wanted in (Any, object, type(None), dict, list, str, int, float, bool, bytes):
        raise TypeError(f"{_NOT_A_TYPE}; {wanted!r} is no type that could be told from a payload")
    if wanted in known:
        raise TypeError(f"{_shown(wanted)} is made by {known[wanted].name!r} already")
    needs = []
    for name, parameter in inspect.signature(function).parameters.items():
        if hints.get(name) in known and parameter.kind is not parameter.POSITIONAL_ONLY:
            needs.append((name, hints[name]))
        elif parameter.default is parameter.empty:
            raise TypeError(
                f"nothing is known to give for {name!r}: a resource is given other resources, declared above it"
            )
    return Resource(
        make=function,
        gives=wanted,
        is_async=inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function),
        yields=yields,
        needs=tuple(needs),
    )


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's annotations, without what `Annotated` says. Raises TypeError where they cannot be read."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:  # whatever an annotation may be
        raise TypeError(f"its annotations cannot be read: {error}") from None
    return {
        name: get_args(hint)[0] if get_origin(hint) is Annotated else hint for name, hint in hints.items()
    }


def _shown(wanted: Any) -> str:
    return str(getattr(wanted, "__name__", wanted))
