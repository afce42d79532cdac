"""Keys that should end by themselves and do not, or that are none of the mesh's: looked for in a bounded sample.

A mesh's memory is bounded since each key has an end, or there is one of it for each service. What has neither grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import redis.asyncio

from streammesh import names
from streammesh.key_types import TYPES
from streammesh.keys import Keys

PAGE, PAGES = 500, 40  # names that Redis looks at, all of them in 40 round trips at most
SAMPLE = 4_000  # keys of the mesh
NO_END = -1  # as PTTL says it
EXPIRES = frozenset({"event", "identity", "arrived", "waiters", "canceller", "alert-told", "refusals"})
OTHERS = frozenset({"result", "set-aside", "lists", "celery-task-meta"})  # of Celery, or known by other means
ENDS_LATER = "task"  # once it has ended
STRANGE = "of no kind that the mesh has"


@dataclass(frozen=True, slots=True)
class LastingKeys:
    """`looked_at` keys of the mesh, and how many of a kind have no end though they should; one of each by name."""

    looked_at: int
    kinds: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, str] = field(default_factory=dict)
    all: int = 0  # keys in the database, of whomever


async def read_lasting_keys(client: redis.asyncio.Redis, keys: Keys) -> LastingKeys:
    """Look at a sample. Raises redis-py's errors."""
    cursor, pages, found = 0, 0, dict[bytes, None]()
    while pages < PAGES and len(found) < SAMPLE:
        cursor, page = await client.scan(cursor, match=f"{_literally(keys.prefix)}*", count=PAGE)
        found |= dict.fromkeys(page)
        pages += 1
        if not cursor:
            break
    looked_at = [*found][:SAMPLE]
    doubtful = [name for name in looked_at if _should_end(name, keys)]
    tasks = [name for name in doubtful if _kind(name, keys) == ENDS_LATER]
    pipeline = client.pipeline(transaction=False)
    for name in doubtful:
        pipeline.pttl(name)
    for name in tasks:
        pipeline.hget(name, "state")
    answers = await pipeline.execute(raise_on_error=False) if doubtful else []
    states = dict(zip(tasks, answers[len(doubtful) :], strict=True))
    kinds, samples = Counter[str](), dict[str, str]()
    for name, left in zip(doubtful, answers, strict=False):
        state = states.get(name)
        if left != NO_END or (name in states and not _has_ended(state)):
            continue
        kind = _kind(name, keys)
        kind = kind if kind in TYPES else STRANGE
        kinds[kind] += 1
        samples.setdefault(kind, name.decode("utf-8", "replace")[:100])
    return LastingKeys(len(looked_at), kinds, samples, await client.dbsize())


def _has_ended(state: object) -> bool:
    return isinstance(state, bytes) and state.decode("latin-1") in names.ENDED


def _kind(name: bytes, keys: Keys) -> str:
    return name.decode("utf-8", "replace").removeprefix(keys.prefix).partition(":")[0]


def _should_end(name: bytes, keys: Keys) -> bool:
    kind = _kind(name, keys)
    return kind in EXPIRES or kind == ENDS_LATER or (kind not in TYPES and kind not in OTHERS)


def _literally(prefix: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in prefix)
