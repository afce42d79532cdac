"""Refusals: services that the mesh does not let in, or whose manifest it cannot use; said by `status` and `doctor`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import redis
import redis.asyncio

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lua.services import NoteRefusalScript

MOST = 100  # services
KEPT_MS = 3_600_000  # a worker that is refused is started again long before
FORGED = "somebody else wrote its manifest, which was refused: what the service wrote itself counts"
LONGEST = 500  # characters of a reason


@dataclass(frozen=True, slots=True)
class RefusedService:
    """One service that is not served as its workers want; `at_ms` None: what is stored of it cannot be used."""

    service: str
    reason: str
    at_ms: int | None = None


def refusal_call(keys: Keys, service: str, reason: str) -> lua.Call[bool]:
    """`note_refusal.lua`: a worker of the service was refused; without a reason, let in."""
    return NoteRefusalScript(
        refusals=keys.refusals(), service=service, reason=reason[:LONGEST], most=MOST, kept=KEPT_MS
    ).call(bool)


def note_refusal(client: redis.Redis, keys: Keys, service: str, reason: str = "") -> None:
    """Note it where Redis answers; the worker's log says it in any case."""
    with contextlib.suppress(redis.RedisError, OSError):
        lua.run_sync(client, refusal_call(keys, service, reason))


async def read_refused(
    client: redis.asyncio.Redis, keys: Keys, broken: Iterable[str], forged: Iterable[str]
) -> list[RefusedService]:
    """Return all by service. `broken`: whose stored manifests cannot be read; `forged`: whose somebody else wrote."""
    found = [RefusedService(name, "what is stored as its manifest cannot be read") for name in sorted(broken)]
    found += [RefusedService(name, FORGED) for name in sorted(forged)]
    noted = await client.hgetall(keys.refusals())
    for name, raw in sorted(noted.items())[:MOST]:
        at, _, reason = raw.decode("utf-8", "replace").partition(" ")
        if at.isdecimal() and len(at) < 15:
            found.append(RefusedService(name.decode("utf-8", "replace"), reason[:LONGEST], int(at)))
    return found
