"""What the mesh uses of libraries that they do not promise to keep: their private names, and how that is watched.

Each room that uses such names has one module `internals.py`, the only one in which they are written. It lists them as
`Expected`, and its `check` looks at start whether the installed libraries still have them so. This one holds redis-py's.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from typing import Any

import redis.asyncio
from redis._parsers import BaseParser

from streammesh.errors import IncompatibleLibrary

parse_error = BaseParser.parse_error  # what an error reply of Redis is raised as


@dataclass(frozen=True)
class Expected:
    """What one class or module should have. Only names of these lists are used elsewhere in an `internals.py`.

    `methods`: name -> its first parameters, without `self`; what it takes besides has to have a default.
    `attributes`: of the class, or such as its methods set and use.
    """

    owner: str  # `package.module:Class`, or a module
    methods: Mapping[str, Sequence[str]] = field(default_factory=dict)
    attributes: Sequence[str] = ()

    @property
    def library(self) -> str:
        """The package it belongs to."""
        return self.owner.partition(".")[0].partition(":")[0]

    def differences(self) -> list[str]:
        """What is not as it should be, in words."""
        module, _, name = self.owner.partition(":")
        try:
            owner = getattr(import_module(module), name) if name else import_module(module)
        except (ImportError, AttributeError):
            return [f"there is no {self.owner}"]
        return [
            *(f"{self.owner} has no {name}" for name in self.attributes if not _has(owner, name)),
            *(found for name, first in self.methods.items() if (found := _unlike(owner, name, first))),
        ]


def _has(owner: Any, name: str) -> bool:
    if hasattr(owner, name) or name in getattr(owner, "__annotations__", {}):
        return True
    methods = [
        inspect.unwrap(one)
        for kind in getattr(owner, "__mro__", ())
        for one in vars(kind).values()
        if callable(one)
    ]
    return any(name in method.__code__.co_names for method in methods if hasattr(method, "__code__"))


def _unlike(owner: Any, name: str, first: Sequence[str]) -> str | None:
    found = getattr(owner, name, None)
    if not callable(found):
        return f"{owner.__module__}.{owner.__qualname__} has no method {name}"
    parameters = list(inspect.signature(found).parameters.values())
    if (
        inspect.isfunction(found)
        and inspect.isclass(owner)
        and not isinstance(vars(owner).get(name), staticmethod)
    ):
        parameters = parameters[1:]
    names = [one.name for one in parameters]
    more = parameters[len(first) :]
    empty = inspect.Parameter.empty
    needed = [
        one.name
        for one in more
        if one.default is empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if names[: len(first)] != list(first) or needed:
        return f"{owner.__module__}.{owner.__qualname__}.{name} takes ({', '.join(names)}), not ({', '.join(first)})"
    return None


def require(expected: Iterable[Expected]) -> None:
    """Raise IncompatibleLibrary unless everything is as it should be."""
    wrong: dict[str, list[str]] = {}
    for one in expected:
        if found := one.differences():
            wrong.setdefault(one.library, []).extend(found)
    for library, found in wrong.items():
        raise incompatible(library, found)


def incompatible(library: str, differences: list[str]) -> IncompatibleLibrary:
    """The error that says what is not as it should be, which version is installed, and which would do."""
    installed, what = metadata.version(library), "; ".join(differences)
    return IncompatibleLibrary(
        f"{library} {installed} is not as the mesh needs it: {what}. Install {_wanted(library)}"
    )


def start_with(check: Callable[[], None]) -> None:
    """Look at the start of a process. Raises SystemExit(2), after one line on standard error, where `check` raises."""
    try:
        check()
    except IncompatibleLibrary as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None


def _wanted(library: str) -> str:
    """The versions that this package asks for, as pip writes them."""
    for line in metadata.requires("streammesh") or ():
        words = line.partition(";")[0].strip()
        if re.split(r"[^\w.-]", words, maxsplit=1)[0] == library:
            return words
    return f"the version of {library} in requirements.lock"


EXPECTED = (
    Expected("redis._parsers:BaseParser", {"parse_error": ("response",)}),
    Expected("redis:Connection", {"_connect": ()}, ("_sock",)),
    Expected("redis:SSLConnection", {"_connect": ()}),
    Expected("redis:UnixDomainSocketConnection", {"_connect": ()}),
    Expected("redis.asyncio:Connection", {"_connect": ()}, ("_reader", "_writer")),
    Expected("redis.asyncio:SSLConnection", {"_connect": ()}),
    Expected("redis.asyncio:UnixDomainSocketConnection", {"_connect": ()}),
)


@cache
def check() -> None:
    """Raise IncompatibleLibrary unless redis-py is as this module needs it; looks once in a process."""
    require(EXPECTED)


def socket_of(connection: Any) -> Any:
    """The socket of a blocking connection; None while it has none."""
    return connection._sock


def streams_of(connection: redis.asyncio.Connection) -> tuple[Any, Any]:
    """The reader and the writer of an asyncio connection that is connected."""
    return connection._reader, connection._writer


class Opening:
    """Over redis-py's blocking connections: `opened` stands around the making of the connection."""

    def _connect(self) -> Any:
        return self.opened(super()._connect)  # type: ignore[misc]

    def opened(self, usual: Any) -> Any:
        """The socket; `usual` is redis-py's way to it."""
        return usual()


class OpeningAsync:
    """The same over its asyncio connections."""

    async def _connect(self) -> None:
        await self.opened(super()._connect)  # type: ignore[misc]

    async def opened(self, usual: Any) -> None:
        """Connect; `usual` is redis-py's way of it."""
        await usual()
