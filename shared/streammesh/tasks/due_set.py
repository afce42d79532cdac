"""What waits for later: reads the due set and moves back what is due; the caller of `promote.lua`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from streammesh import lua
from streammesh.keys import Keys
from streammesh.lines.upkeep import tend_call
from streammesh.lua.tasks import PromoteScript
from streammesh.redisio.client import is_unavailable

BROKEN_AGAIN_MS = 3_600_000  # when a member that cannot be read is looked at again
_PACKED = re.compile(rb"P[^\x00-\x1f]+\n[^\n]*\n[^\n]*")
log = structlog.get_logger(__name__)


class DueSet:
    """The due set of one mesh: retries of tasks, events that are delivered later."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    async def now_ms(self) -> int:
        """Redis's clock, by which due times are made and judged: the clocks of dispatchers do not matter."""
        seconds, micros = await self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def next_due_ms(self) -> int | None:
        """When the next member is due, in ms since the epoch; None when nothing waits."""
        first = await self._client.zrange(self._keys.due(), 0, 0, withscores=True)
        return int(min(max(first[0][1], 0.0), 2.0**53)) if first else None

    async def promote(self, now_ms: int, limit: int = 500) -> int:
        """Move up to `limit` members that are due to where they were going; answers how many this call moved."""
        members = await self._client.zrange(
            self._keys.due(), "-inf", str(now_ms), byscore=True, offset=0, num=limit
        )
        if not members:
            return 0
        entries = await self._client.hmget(self._keys.due_entries(), members)
        calls, asked, orphans, broken, garbage = [], [], [], [], []
        for member, entry in zip(members, entries, strict=True):
            if not entry:  # moved by another promoter between the two reads, or half of a restored dump
                orphans.append(member)
                continue
            try:
                calls.append(self._call(member, _packed(member, entry) or orjson.loads(entry)))
                asked.append(member)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                log.error("due.broken", member=_shown(member), reason=repr(error)[:200])
                garbage.append(member)
        if orphans:
            await self._client.zrem(self._keys.due(), *orphans)
        if garbage:
            await self._put_off(garbage, now_ms)
        answers = await lua.run_many(self._client, calls)
        for member, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                if is_unavailable(answer) or not isinstance(answer, ResponseError):
                    raise answer
                log.error("due.broken", member=_shown(member), reason=repr(answer)[:200])
                broken.append(member)
        if broken:
            await self._later(broken, now_ms)
        return sum(answer for answer in answers if isinstance(answer, int))

    async def _later(self, members: Sequence[bytes], now_ms: int) -> None:
        """Look at these again in a while: nobody else is held up by them, and somebody may mend them."""
        later = dict.fromkeys(members, now_ms + BROKEN_AGAIN_MS)
        await self._client.zadd(self._keys.due(), later, xx=True)

    async def _put_off(self, garbage: Sequence[bytes], now_ms: int) -> None:
        """What cannot be read waits for whoever mends it, but for tasks: one that lies nowhere is queued again from
        its event (by the reconciler)."""
        tasks = [member for member in garbage if member.startswith(b"task:")]
        rest = [member for member in garbage if not member.startswith(b"task:")]
        if tasks:
            pipeline = self._client.pipeline(transaction=True)
            pipeline.zrem(self._keys.due(), *tasks).hdel(self._keys.due_entries(), *tasks)
            await pipeline.execute()
        if rest:
            await self._later(rest, now_ms)

    def _call(self, member: bytes, entry: dict[str, Any]) -> lua.Call[int]:
        keys = self._keys
        if entry["kind"] == "flow":
            _texts(entry, "name")
            tending = tend_call(keys, entry["name"])
            return lua.Call(tending.script, tending.keys, tending.args, lambda _: 1)
        if entry["kind"] not in ("event", "task", "entry"):
            raise ValueError("it is of no kind that is known")
        h = b = domain = envelope = source = digest = ""
        if entry["kind"] == "event":
            _texts(entry, "domain", "id", "json", "source", "digest")
            target, row = keys.events(entry["domain"]), keys.event(entry["id"])
            domain, envelope, source, digest = (
                entry[name] for name in ("domain", "json", "source", "digest")
            )
        else:
            _texts(entry, "queue", "task")
            target = keys.queue("") + entry["queue"] if "packed" in entry else entry["queue"]
            row = keys.task(entry["task"])
            if not target.startswith(keys.queue("")):
                raise ValueError("it leads to no queue of this mesh")
            h, b = entry.get("h", ""), entry.get("b", "")
            _texts({"h": h, "b": b}, "h", "b")
        return PromoteScript(
            due=keys.due(),
            due_entries=keys.due_entries(),
            target=target,
            row=row,
            domains=keys.domains(),
            member=member,
            kind=entry["kind"],
            h=h,
            b=b,
            domain=domain,
            json=envelope,
            source=source,
            digest=digest,
            changed=keys.manifests_changed(),
        ).call(int)


def _packed(member: bytes, entry: bytes) -> dict[str, Any] | None:
    """What waits long, as `suspend.lua` packs it (`_packed.lua`); None for JSON. `promote.lua` unpacks it."""
    if not _PACKED.fullmatch(entry):
        return None
    queue = entry[1:].partition(b"\n")[0].decode()
    task = member.decode().partition("task:")[2]
    return {"kind": "task", "task": task, "queue": queue, "packed": True, "b": entry.decode()}


def _texts(entry: Mapping[str, Any], *names: str) -> None:
    """Raises TypeError unless these are texts that can be sent."""
    for name in names:
        value = entry[name]
        if not isinstance(value, str):
            raise TypeError(f"{name} is no text")
        value.encode()


def _shown(member: bytes) -> str:
    return member.decode("utf-8", "replace")[:200]
