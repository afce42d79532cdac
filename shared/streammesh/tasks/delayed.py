"""What waits for later: reads the due set and moves back what is due; the caller of `promote.lua`."""

from __future__ import annotations

from typing import Any

import orjson
import redis.asyncio
import structlog
from redis.exceptions import ResponseError

from streammesh import lua
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable

BROKEN_AGAIN_MS = 3_600_000  # when a member that cannot be read is looked at again
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
        return int(first[0][1]) if first else None

    async def promote(self, now_ms: int, limit: int = 500) -> int:
        """Move up to `limit` members that are due to where they were going; answers how many this call moved."""
        members = await self._client.zrange(
            self._keys.due(), "-inf", str(now_ms), byscore=True, offset=0, num=limit
        )
        if not members:
            return 0
        entries = await self._client.hmget(self._keys.due_entries(), members)
        calls, asked, orphans, broken = [], [], [], []
        for member, entry in zip(members, entries, strict=True):
            if not entry:  # moved by another promoter between the two reads, or half of a restored dump
                orphans.append(member)
                continue
            try:
                calls.append(self._call(member, orjson.loads(entry)))
                asked.append(member)
            except (ValueError, KeyError, TypeError) as error:
                log.error("due.broken", member=member.decode("utf-8", "replace"), reason=repr(error))
                broken.append(member)
        if orphans:
            await self._client.zrem(self._keys.due(), *orphans)
        answers = await lua.run_many(self._client, calls)
        for member, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                if is_unavailable(answer) or not isinstance(answer, ResponseError):
                    raise answer
                log.error("due.broken", member=member.decode("utf-8", "replace"), reason=repr(answer))
                broken.append(member)
        if broken:  # nobody else is held up by it; somebody may mend it
            later = dict.fromkeys(broken, now_ms + BROKEN_AGAIN_MS)
            await self._client.zadd(self._keys.due(), later, xx=True)
        return sum(answer for answer in answers if isinstance(answer, int))

    def _call(self, member: bytes, entry: dict[str, Any]) -> lua.Call[int]:
        keys = self._keys
        if entry["kind"] == "event":
            target, row = keys.events(entry["domain"]), keys.event(entry["id"])
            args = [member, "event", entry["domain"], entry["json"], entry["source"], entry["digest"]]
        else:
            target, row = entry["queue"], keys.task(entry["task"])
            args = [member, entry["kind"], entry.get("h", ""), entry.get("b", ""), "", ""]
        return lua.Call(
            lua.script("promote"),
            [keys.due(), keys.due_entries(), target, row, keys.domains()],
            [*args, keys.manifests_changed()],
            int,
        )
