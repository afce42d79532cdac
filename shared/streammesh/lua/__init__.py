"""Runs calls of the Lua scripts: on a sync client, an async client, or several in one round trip.

A script is `<name>.lua` beside this file (`script.py`); what it takes is declared by name in `queues.py`, `tasks.py`,
`events.py`, `services.py`, `history.py`, `backfills.py` and `webhooks.py` (how: `signature.py`). Each script has one typed caller elsewhere in the kit, which
builds a `Call`; the same `Call` runs on a sync client, an async client or in a pipeline.

A script that takes several tasks decides about each of them on its own, and answers a list. Its calls have a
`Common`: what all of them say alike. Calls of one Common may travel as one command (see `redisio/pipeline.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import redis.asyncio
import structlog
from redis.exceptions import NoScriptError, ResponseError

from streammesh.errors import MeshError
from streammesh.key_types import set_aside, type_of
from streammesh.lua import (
    backfills,
    cancels,
    durable,
    events,
    flow,
    history,
    queues,
    routes,
    services,
    tasks,
    webhooks,
)
from streammesh.lua.script import Arg, Call, Common, Script, command, script, together
from streammesh.lua.services import SetAsideKey, SetAsideScript

__all__ = ["Arg", "Call", "Common", "Script", "command", "script", "together"]

T = TypeVar("T")
DECLARED = (
    backfills,
    cancels,
    durable,
    events,
    flow,
    history,
    queues,
    routes,
    services,
    tasks,
    webhooks,
)  # the modules that say what scripts take
SET_ASIDE_MS = 7 * 86_400_000
MENDS = 3  # who writes what has the wrong type may do so again in between
log = structlog.get_logger(__name__)


class BlockingClient(Protocol):
    """What makes calls and waits for their answers: `redis.Redis`, `streammesh.redisio.blocking_connection.Blocking`."""

    def execute_command(self, *command: Any) -> Any:
        """The answer to one command. Raises redis-py's errors."""


def is_wrong_type(error: BaseException) -> bool:
    """Whether Redis says that something else lies under a key than should."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)[:200]


def set_aside_call(names: Iterable[str]) -> Call[int]:
    """`set_aside.lua`: move what has the wrong type out of the way; answers how many keys that were, and says so."""
    known = [(name, kind) for name in dict.fromkeys(names) if (kind := type_of(name))]

    def parse(moved: list[list[bytes]]) -> int:
        for key, was in moved:
            name = key.decode("utf-8", "replace")
            kept = set_aside(name)
            log.error("key.set_aside", key=name, was=was.decode(), should_be=type_of(name), kept_as=kept)
        return len(moved)

    misplaced = [SetAsideKey(key=name, aside=set_aside(name), kind=kind) for name, kind in known]
    return SetAsideScript(lifetime=SET_ASIDE_MS, misplaced=misplaced).call(parse)


def mend_call(call: Call[Any]) -> Call[int]:
    """Sets aside what has the wrong type among the keys of a call that was refused for it."""
    return set_aside_call([*(call.common.keys if call.common else ()), *call.keys])


async def run(client: redis.asyncio.Redis, call: Call[T]) -> T:
    """Make the call: one round trip, two when the server does not have the script yet.

    What has the wrong type among its keys is set aside, and the call is made again.
    """
    for _ in range(MENDS):
        try:
            return await _run(client, call)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
        # That it moved nothing may be said of its repeat, after a lost answer.
        await _run(client, mend_call(call))
    return await _run(client, call)


async def _run(client: redis.asyncio.Redis, call: Call[T]) -> T:
    try:
        answer = await client.execute_command(*call.eval())
    except NoScriptError:
        answer = await client.execute_command(*call.eval(text=True))
    return call.read(answer)


def run_sync(client: BlockingClient, call: Call[T]) -> T:
    """As `run`, on a blocking client."""
    for _ in range(MENDS):
        try:
            return _run_sync(client, call)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
        _run_sync(client, mend_call(call))
    return _run_sync(client, call)


def _run_sync(client: BlockingClient, call: Call[T]) -> T:
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
    wrong = [i for i, answer in enumerate(answers) if isinstance(answer, Exception) and is_wrong_type(answer)]
    for i in wrong:
        try:
            answers[i] = await _mended(client, calls[i])
        except ResponseError as error:
            answers[i] = error
    return [_parsed(call, answer) for call, answer in zip(calls, answers, strict=True)]


async def _mended(client: redis.asyncio.Redis, call: Call[Any]) -> Any:
    await _run(client, mend_call(call))
    return await client.execute_command(*call.eval(text=True))


def _parsed(call: Call[Any], answer: Any) -> Any:
    """What the call answers; an error of its `parse` is its own and not the whole round trip's."""
    if isinstance(answer, Exception):
        return answer
    try:
        return call.read(answer)
    except MeshError as error:
        return error


Runner = Callable[[Call[T]], Awaitable[T]]
