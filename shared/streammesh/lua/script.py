"""A Lua script as a value, and one call of it.

A script is `<name>.lua` beside this file; its header says what it does, and what each of its keys and arguments is.
Which they are, in which order and of which type, is declared once, by a subclass of `signature.Arguments`; the Lua
side gets them as locals of the same names, from text that is put before the script. A line `--#include _part.lua`
is replaced by that file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
Arg = str | bytes | int | float
PRELUDES: dict[str, Callable[[], str]] = {}  # script -> the text that gives its locals their values
SHEBANG = "#!lua "  # a first line that has to stay the first


@dataclass(frozen=True)
class Script:
    """One Lua script: its text and its SHA-1, by which the server caches it."""

    name: str
    text: bytes = field(repr=False)
    sha: str


@cache
def script(name: str) -> Script:
    """The script `<name>.lua`, its includes filled in. Raises FileNotFoundError if there is none."""
    lines = _read(f"{name}.lua", set())
    prelude = PRELUDES.get(name)
    if prelude is not None:
        lines.insert(int(lines[0].startswith(SHEBANG)), prelude())
    text = "\n".join(lines).encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def _read(file: str, seen: set[str]) -> list[str]:
    """The lines of a script, each of its includes where it is named first."""
    lines = resources.files(__package__).joinpath(file).read_text("utf-8").splitlines()
    out = []
    for line in lines:
        included = line.removeprefix("--#include ").strip() if line.startswith("--#include ") else ""
        if not included:
            out.append(line)
        elif included not in seen:
            seen.add(included)
            out += _read(included, seen)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """What some calls of one script have in common: its first keys and its first arguments."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Arg]


class Call(NamedTuple, Generic[T]):
    """One call of a script, not yet made; `parse` turns the server's answer into what the caller wants.

    With a `common` the keys and arguments are its own, and come after those of the common.
    """

    script: Script
    keys: Sequence[str]
    args: Sequence[Arg]
    parse: Callable[[Any], T]
    common: Common | None = None

    def eval(self, *, text: bool = False) -> tuple[Any, ...]:
        """The command: EVALSHA, or EVAL with the whole text."""
        return command([self], text=text)

    def read(self, answer: Any) -> T:
        """What the server's answer to this call alone means."""
        return self.parse(answer if self.common is None else answer[0])


def command(calls: Sequence[Call[Any]], *, text: bool = False) -> tuple[Any, ...]:
    """The command for one call, or for several of one Common: EVALSHA, or EVAL with the whole text."""
    first = calls[0]
    how = ("EVAL", first.script.text) if text else ("EVALSHA", first.script.sha)
    if first.common is None:
        return (*how, len(first.keys), *first.keys, *first.args)
    keys, args = _joined(first.common, calls)
    return (*how, len(keys), *keys, *args)


def together(calls: Sequence[Call[Any]], parse: Callable[[Any], Any] | None = None) -> Call[Any]:
    """Calls of one Common as one call, which the server makes in one step; `parse`: of its one answer, else each has its own."""
    common = calls[0].common
    assert common is not None and all(one.common is common for one in calls)
    keys, args = _joined(common, calls)

    def each(answers: list[Any]) -> list[Any]:
        return [one.parse(answer) for one, answer in zip(calls, answers, strict=True)]

    return Call(calls[0].script, keys, args, parse or each)


def _joined(common: Common, calls: Sequence[Call[Any]]) -> tuple[list[str], list[Arg]]:
    """Keys and arguments of calls of one Common, after its own."""
    keys, args = [*common.keys], [*common.args]
    for call in calls:
        keys += call.keys
        args += call.args
    return keys, args
