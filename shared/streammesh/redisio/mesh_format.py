"""Which format of keys and scripts a mesh has, and whether a process may work in it.

A change that processes of the version before cannot live with raises `FORMAT`, comes with a migration, and says by
`OLDEST` who may still work beside it. Everything else changes without either. A process that meets a mesh which has
gone on without it waits, and says so; one that is overtaken while it works ends, to be started anew and wait.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import redis.asyncio
import structlog

from streammesh import lua
from streammesh.health import Health
from streammesh.keys import Keys
from streammesh.lua import BlockingClient
from streammesh.lua.services import RaiseFormatScript, ReadFormatScript
from streammesh.redisio.client import is_unavailable, open_sync
from streammesh.settings import MeshSettings

PART = "mesh"  # of what `/readyz` tells
AGAIN_SECONDS = 2.0
_overtaken: set[int] = set()  # ids of processes that were told to end
SAME, OLDER, NEWER = "same", "older", "newer"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step from a format to the next.

    `step` is a call that moves some of what is there and may be repeated; it is given '' first, then what it answered,
    until it answers ''. None where nothing has to be moved. `oldest`: whose processes may work beside it from its
    beginning on.
    """

    to: int
    oldest: int
    step: Callable[[Keys, str], lua.Call[str]] | None = None


MIGRATIONS = (Migration(1, oldest=0),)  # 1: meshes bear their version from here on
FORMAT = MIGRATIONS[-1].to


@dataclass(frozen=True, slots=True)
class MeshFormat:
    """What a mesh says of itself: 0 where it bears no version yet."""

    standing: str
    version: int
    oldest: int

    @property
    def why_not(self) -> str | None:
        """Why this process may not work there; None where it may."""
        if self.standing != NEWER:
            return None
        return (
            f"the mesh has format {self.version} and is for processes of format {self.oldest} or newer, this one is of"
            f" {FORMAT}: start a newer version of it"
        )


def read_call(keys: Keys) -> lua.Call[MeshFormat]:
    """`read_format.lua`."""

    def parse(answer: list[Any]) -> MeshFormat:
        standing, version, oldest = answer
        return MeshFormat(standing.decode(), int(version), int(oldest))

    return ReadFormatScript(format=keys.format(), mine=FORMAT).call(parse)


def migration(keys: Keys, version: int) -> Generator[lua.Call[Any], Any, None]:
    """The calls, in order, that bring a mesh of a version up to this one; each is sent the answer of the one before."""
    for one in MIGRATIONS:
        if one.to <= version:
            continue
        at, goes_on = "", one.step is not None
        while goes_on and one.step is not None:
            at = yield one.step(keys, at)
            goes_on = bool(at)
        noted = yield RaiseFormatScript(format=keys.format(), mine=one.to, oldest=one.oldest).call(bool)
        if noted:
            log.info("mesh.migrated", version=one.to)


async def migrate(client: redis.asyncio.Redis, keys: Keys) -> None:
    """Bring the mesh up to this version. Any number of processes may do so at once, and may be killed meanwhile."""
    steps, answer = migration(keys, (await lua.run(client, read_call(keys))).version), None
    while (call := _next(steps, answer)) is not None:
        answer = await lua.run(client, call)


def migrate_sync(client: BlockingClient, keys: Keys) -> None:
    """As `migrate`, on a blocking client."""
    steps, answer = migration(keys, lua.run_sync(client, read_call(keys)).version), None
    while (call := _next(steps, answer)) is not None:
        answer = lua.run_sync(client, call)


def _next(steps: Generator[lua.Call[Any], Any, None], answer: Any) -> lua.Call[Any] | None:
    try:
        return steps.send(answer)
    except StopIteration:
        return None


async def meet(client: redis.asyncio.Redis, keys: Keys, health: Health, stop: asyncio.Event | None) -> None:
    """Wait until this process may work in the mesh, or is told to stop; migrate the mesh where it is older.

    A Redis that is away is not waited for: the sign of life looks again.
    """
    waits = _FormatPart(health)
    while stop is None or not stop.is_set():
        try:
            found = await lua.run(client, read_call(keys))
            if found.standing == OLDER:
                await migrate(client, keys)
        except Exception as error:
            if not is_unavailable(error):
                raise
            waits.for_nothing()
            return
        if not waits.for_newer(found):
            return
        if stop is None:
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            await _until(stop, AGAIN_SECONDS)


def meet_sync(settings: MeshSettings, health: Health) -> None:
    """As `meet`, for who has no event loop; a signal ends the process as ever."""
    keys, waits = Keys(settings.namespace), _FormatPart(health)
    client = open_sync(settings, "format")
    try:
        while True:
            try:
                found = lua.run_sync(client, read_call(keys))
                if found.standing == OLDER:
                    migrate_sync(client, keys)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                waits.for_nothing()
                return
            if not waits.for_newer(found):
                return
            time.sleep(AGAIN_SECONDS)
    finally:
        client.close()


def end_overtaken() -> None:
    """Have this process end in order, as by SIGTERM: the mesh has gone on to a format that it cannot work with.

    It is told once, however long it drains.
    """
    if os.getpid() in _overtaken:
        return
    _overtaken.add(os.getpid())
    log.error("mesh.newer", mine=FORMAT, does="the process ends; started anew it waits")
    os.kill(os.getpid(), signal.SIGTERM)


class _FormatPart:
    """What is told of one process that meets a mesh."""

    def __init__(self, health: Health) -> None:
        self._why: str | None = "its format was not read yet"
        self._waited = False
        health.works_while(PART, lambda: self._why)

    def for_newer(self, found: MeshFormat) -> bool:
        why = found.why_not
        if why and why != self._why:
            log.error("mesh.newer", mine=FORMAT, version=found.version, oldest=found.oldest, does="it waits")
            self._waited = True
        elif self._waited and not why:
            log.info("mesh.fits", version=found.version)
        self._why = why
        return why is not None

    def for_nothing(self) -> None:
        """Redis is away: others say so."""
        self._why = None


async def _until(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
