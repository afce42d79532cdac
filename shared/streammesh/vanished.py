"""Tasks that have not ended and lie nowhere: their queue was deleted by hand, another broker lost them.

The list of open tasks (`keys.open_tasks`) is compared with what it should lie in. What runs cannot be told
from what a dead worker left when its queue entry is gone; it is queued again all the same, and of the two
runs one counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import redis.asyncio

from streammesh import lua, names, notifications
from streammesh.keys import Keys
from streammesh.rows import TaskRow, parse_task
from streammesh.settings import MeshSettings

PAGE = 200  # tasks looked at in one round trip


@dataclass(frozen=True, slots=True)
class Vanished:
    """One such task, its state, and where it should lie."""

    row: TaskRow
    place: str


class OpenTasks:
    """The tasks of one mesh that have not ended."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys, self._settings = client, keys, settings

    async def vanished(self, service: str, before_ms: int) -> AsyncIterator[Vanished]:
        """Those of a service, handed over before that time, that lie nowhere; and tidies the list."""
        key, after = self._keys.open_tasks(service), "-inf"
        offset = 0
        while True:
            found = await self._client.zrange(
                key, after, f"({before_ms}", byscore=True, offset=offset, num=PAGE, withscores=True
            )
            if not found:
                return
            last = int(found[-1][1])
            same = sum(int(score) == last for _, score in found)
            offset, after = same + (offset if same == len(found) else 0), str(last)
            rows = await self._rows([task_id.decode() for task_id, _ in found])
            over = [task_id for task_id, row in rows.items() if row is None or row.ended]
            if over:
                await self._client.zrem(key, *over)
                offset = max(0, offset - len(over))
            for one in await self._nowhere([row for row in rows.values() if row and not row.ended]):
                if _since(one.row) < before_ms:
                    yield one

    async def _rows(self, task_ids: list[str]) -> dict[str, TaskRow | None]:
        pipeline = self._client.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.hgetall(self._keys.task(task_id))
        rows = await pipeline.execute()
        return {
            task_id: parse_task(task_id, row) if b"meta" in row else None
            for task_id, row in zip(task_ids, rows, strict=True)
        }

    async def _nowhere(self, rows: list[TaskRow]) -> list[Vanished]:
        """Of these, the ones that do not lie where they should."""
        keys, asked = self._keys, []
        pipeline = self._client.pipeline(transaction=False)
        for row in rows:
            if row.workflow:
                continue  # its parts are Celery's; nobody knows where they all are
            if row.state in (names.QUEUED, names.STARTED) and row.entry:
                asked.append(Vanished(row, row.entry))
                pipeline.xrange(keys.queue(row.service), row.entry, row.entry)
            elif row.state == names.RETRYING:
                asked.append(Vanished(row, ""))
                pipeline.zscore(keys.due(), f"task:{row.id}")
            elif row.state == names.HELD:
                asked.append(Vanished(row, row.held))
                pipeline.xrange(keys.held(row.name), row.held or "-", row.held or "-")
        answers = await pipeline.execute()
        return [one for one, answer in zip(asked, answers, strict=True) if answer is None or answer == []]

    def queue_again_call(self, one: Vanished, header: bytes, body: bytes) -> lua.Call[bool]:
        """`queue_again.lua`: queue it with these fields, if it still lies nowhere; answers whether this call did."""
        keys, row, ref = self._keys, one.row, one.row.ref
        note = notifications.body(
            ref.fragment,
            row.id,
            row.name,
            row.service,
            row.attempt,
            {"reason": "its queue entry had vanished"},
        )
        return lua.Call(
            lua.script("queue_again"),
            [
                *(keys.task(row.id), keys.queue(row.service), keys.due(), keys.held(row.name)),
                *(keys.event(ref.event.id), keys.notifications()),
            ],
            [
                *(row.id, row.state, one.place, header, body, self._settings.notifications_kept, note),
                *(ref.event.source, ref.event.id, ref.event.type, ref.event.subject or "", row.service),
            ],
            bool,
        )


def _since(row: TaskRow) -> int:
    """Since when (ms) it is in its state, as far as that is known."""
    return max(row.times_ms.get("queued", 0), row.times_ms.get("started", 0), row.times_ms.get("due", 0))
