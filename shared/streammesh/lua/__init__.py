"""Lua scripts as values: load one, call it, read its answer.

A script is `<name>.lua` beside this file; its header says what it does and what it takes. A line
`--#include _part.lua` is replaced by that file. Each script has one typed caller elsewhere in the
kit, which builds a `Call`; the same `Call` runs on a sync client, an async client or in a pipeline.

A script that takes several tasks decides about each of them on its own, and answers a list. Its calls have a
`Common`: what all of them say alike. Calls of one Common may travel as one command (see `multiplexed.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import redis.asyncio
from redis.exceptions import NoScriptError

from streammesh.errors import MeshError

T = TypeVar("T")
Arg = str | bytes | int | float


@dataclass(frozen=True)
class Script:
    """One Lua script: its text and its SHA-1, by which the server caches it."""

    name: str
    text: bytes = field(repr=False)
    sha: str


@cache
def script(name: str) -> Script:
    """The script `<name>.lua`, its includes filled in. Raises FileNotFoundError if there is none."""
    text = _read(f"{name}.lua").encode()
    return Script(name, text, hashlib.sha1(text, usedforsecurity=False).hexdigest())


def _read(file: str) -> str:
    lines = resources.files(__package__).joinpath(file).read_text("utf-8").splitlines()
    return "\n".join(
        _read(line.removeprefix("--#include ").strip()) if line.startswith("--#include ") else line
        for line in lines
    )


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
    keys, args = list(first.common.keys), list(first.common.args)
    for call in calls:
        keys += call.keys
        args += call.args
    return (*how, len(keys), *keys, *args)


class BlockingClient(Protocol):
    """What makes calls and waits for their answers: `redis.Redis`, `streammesh.redisio.blocking.Blocking`."""

    def execute_command(self, *command: Any) -> Any:
        """The answer to one command. Raises redis-py's errors."""


async def run(client: redis.asyncio.Redis, call: Call[T]) -> T:
    """Make the call: one round trip, two when the server does not have the script yet."""
    try:
        answer = await client.execute_command(*call.eval())
    except NoScriptError:
        answer = await client.execute_command(*call.eval(text=True))
    return call.read(answer)


def run_sync(client: BlockingClient, call: Call[T]) -> T:
    """As `run`, on a blocking client."""
    try:
        answer = client.execute_command(*call.eval())
    except NoScriptError:
        answer = client.execute_command(*call.eval(text=True))
    return call.read(answer)


async def run_many(client: redis.asyncio.Redis, calls: Sequence[Call[Any]]) -> list[Any]:
    """Make several calls in one round trip, each on its own: an error stands in its place in the answer."""
    if not calls:
        return []
    pipeline = client.pipeline(transaction=False)
    for call in calls:
        pipeline.execute_command(*call.eval())
    answers = await pipeline.execute(raise_on_error=False)
    missing = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if missing:
        pipeline = client.pipeline(transaction=False)
        for i in missing:
            pipeline.execute_command(*calls[i].eval(text=True))
        for i, answer in zip(missing, await pipeline.execute(raise_on_error=False), strict=True):
            answers[i] = answer
    return [_parsed(call, answer) for call, answer in zip(calls, answers, strict=True)]


def _parsed(call: Call[Any], answer: Any) -> Any:
    """What the call answers; an error of its `parse` is its own and not the whole round trip's."""
    if isinstance(answer, Exception):
        return answer
    try:
        return call.read(answer)
    except MeshError as error:
        return error


Runner = Callable[[Call[T]], Awaitable[T]]
