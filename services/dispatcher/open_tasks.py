"""Tasks that have not ended and lie nowhere: their queue was deleted by hand, another broker lost them.

The list of open tasks (`keys.open_tasks`) is compared with what it should lie in. What runs cannot be told
from what a dead worker left when its queue entry is gone; it is queued again all the same, and of the two
runs one counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Any

import orjson
import redis.asyncio
from streammesh import lua, names, notifications
from streammesh.keys import PRIORITY, Keys
from streammesh.lines.upkeep import tend_call
from streammesh.lua.tasks import QueueAgainScript
from streammesh.redisio.answers import there
from streammesh.settings import MeshSettings
from streammesh.tasks.records import TaskRow, place_of, read_task

PAGE = 200  # tasks looked at in one go
FIELDS = ("state", "entry", "workflow", "held", "queued", "started", "due", "meta", "flow", "run")
Cursor = tuple[str, int]  # score to begin at, and how many of that score were looked at
POSITION = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
FIRST: Cursor = ("-inf", 0)


@dataclass(frozen=True, slots=True)
class Vanished:
    """One such task, its state, and where it should lie."""

    row: TaskRow
    place: str


class OpenTasks:
    """The tasks of one mesh that have not ended."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys, self._settings = client, keys, settings

    async def look(
        self, service: str, before_ms: int, cursor: Cursor = FIRST
    ) -> tuple[list[Vanished], Cursor | None]:
        """Look at one page of a service's tasks that were handed over before that time, the oldest first.

        Answers those that lie nowhere since then, and where to go on, None at the end. Tidies the list.
        """
        key, (begin, skipped) = self._keys.open_tasks(service), cursor
        found = await self._client.zrange(
            key, begin, f"({before_ms}", byscore=True, offset=skipped, num=PAGE, withscores=True
        )
        if not found:
            return [], None
        last = found[-1][1]
        same = sum(score == last for _, score in found)
        skipped = same + (skipped if same == len(found) else 0)
        members = {task_id.decode("utf-8", "replace"): task_id for task_id, _ in found}
        rows = await self._fields(list(members))
        over = [members[i] for i, row in rows.items() if not row["state"] or row["state"] in names.ENDED]
        if over:
            await self._client.zrem(key, *over)
            skipped = max(0, skipped - len(over))
        await self._give_places(rows)
        lost = await self._nowhere(service, {i: row for i, row in rows.items() if _since(row) < before_ms})
        return await self._whole(lost), (_score(last), skipped) if len(found) == PAGE else None

    async def _fields(self, task_ids: list[str]) -> dict[str, dict[str, str]]:
        pipeline = self._client.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.hmget(self._keys.task(task_id), FIELDS)
        return {
            task_id: {
                name: (value or b"").decode("utf-8", "replace")
                for name, value in zip(FIELDS, there(row, [None] * len(FIELDS)), strict=True)
            }
            for task_id, row in zip(task_ids, await pipeline.execute(raise_on_error=False), strict=True)
        }

    async def _nowhere(self, service: str, rows: dict[str, dict[str, str]]) -> dict[str, str]:
        """Of these, the ones that do not lie where they should: id -> that place."""
        keys, asked = self._keys, {}
        pipeline = self._client.pipeline(transaction=False)
        held: dict[str, str] = {}
        taken: dict[str, str] = {}  # by runs, which name them
        for task_id, row in rows.items():
            if row["workflow"]:
                continue  # its parts are Celery's; nobody knows where they all are
            if row["state"] == names.TaskState.QUEUED and row["run"]:
                taken[task_id] = row["run"]
            elif row["state"] in (names.TaskState.QUEUED, names.TaskState.STARTED) and POSITION.fullmatch(
                row["entry"]
            ):
                asked[task_id] = row["entry"]
                pipeline.xrange(self._stream(service, row["meta"]), row["entry"], row["entry"])
            elif row["state"] in (names.TaskState.RETRYING, names.TaskState.WAITING):
                asked[task_id] = ""
                pipeline.zscore(keys.due(), f"task:{task_id}")
            elif row["state"] == names.TaskState.HELD and POSITION.fullmatch(row["held"]):
                held[task_id] = row["held"]
            elif row["state"] == names.TaskState.PENDING:
                asked[task_id] = ""
                pipeline.zscore(*self._in_line(task_id, row["flow"]))
        answers = [there(answer) for answer in await pipeline.execute(raise_on_error=False)]
        lost = {i: place for (i, place), a in zip(asked.items(), answers, strict=True) if _nothing(a)}
        whole = {row.id: row for row in await self._rows(list(held))}
        pipeline = self._client.pipeline(transaction=False)
        for task_id, place in held.items():
            pipeline.xrange(keys.held(whole[task_id].name if task_id in whole else ""), place, place)
        for (task_id, place), answer in zip(
            held.items(), await pipeline.execute(raise_on_error=False), strict=True
        ):
            if _nothing(there(answer)):
                lost[task_id] = place
        pipeline = self._client.pipeline(transaction=False)
        for run in taken.values():
            pipeline.hget(keys.task(run), "batch")
        for task_id, answer in zip(taken, await pipeline.execute(raise_on_error=False), strict=True):
            if task_id.encode() not in (there(answer, None) or b"").split(b" "):
                lost[task_id] = ""
        return lost

    async def _give_places(self, rows: dict[str, dict[str, str]]) -> None:
        """Have tasks of subscriptions with flow control take their places again that are under way without one."""
        under_way = {
            task_id: row["flow"].split("\0")
            for task_id, row in rows.items()
            if row["state"] in (names.TaskState.QUEUED, names.TaskState.STARTED)
            and not row["run"]
            and row["flow"].count("\0") == 2
        }
        pipeline = self._client.pipeline(transaction=False)
        for task_id, (name, key, _) in under_way.items():
            pipeline.zscore(self._keys.flow_places(name), f"{key}\0{task_id}")
        answers = await pipeline.execute(raise_on_error=False) if under_way else []
        without: dict[str, list[str]] = {}
        for (task_id, (name, _, _)), answer in zip(under_way.items(), answers, strict=True):
            if there(answer, None) is None:
                without.setdefault(name, []).append(task_id)
        for name, tasks in without.items():
            await lua.run(self._client, tend_call(self._keys, name, tasks=tasks))

    def _in_line(self, task_id: str, flow: str) -> tuple[str, str]:
        """The line in which a task waits, and its member there."""
        name, _, member = flow.partition("\0")
        return self._keys.flow_line(name), f"{member} {task_id}"

    def _stream(self, service: str, meta: str) -> str:
        """Where a task's queue entry lies."""
        try:
            queue, priority = place_of(orjson.loads(meta))
        except (ValueError, KeyError, TypeError, AttributeError):
            queue, priority = service, PRIORITY
        return self._keys.queue(queue, priority)

    async def _whole(self, lost: dict[str, str]) -> list[Vanished]:
        return [Vanished(row, lost[row.id]) for row in await self._rows(list(lost)) if not row.ended]

    async def _rows(self, task_ids: list[str]) -> list[TaskRow]:
        pipeline = self._client.pipeline(transaction=False)
        for task_id in task_ids:
            pipeline.hgetall(self._keys.task(task_id))
        stored = [there(row) for row in await pipeline.execute(raise_on_error=False)]
        rows = [read_task(task_id, row) for task_id, row in zip(task_ids, stored, strict=True)]
        return [row for row in rows if row is not None]

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
        return QueueAgainScript(
            task_row=keys.task(row.id),
            queue=keys.queue(row.place.queue, row.place.priority),
            due=keys.due(),
            held=keys.held(row.name),
            event_row=keys.event(ref.event.id),
            notifications=keys.notifications(),
            task=row.id,
            state=row.state,
            place=one.place,
            h=header,
            b=body,
            kept=self._settings.notifications_bound,
            body=note,
            source=ref.event.source,
            event=ref.event.id,
            event_type=ref.event.type,
            subject=ref.event.subject or "",
            service=row.service,
        ).call(bool)


def _nothing(answer: Any) -> bool:
    """Whether nothing lies there: no entries, no score (which may be 0)."""
    return answer is None or (not isinstance(answer, float) and not answer)


def _since(row: dict[str, str]) -> int:
    """Since when (ms) it is in its state, as far as that is known."""
    times = [row[name] for name in ("queued", "started", "due")]
    return max(int(at) if at.isascii() and at.isdigit() and len(at) < 20 else 0 for at in times)


def _score(at: float) -> str:
    """A score as a range begins with it; what garbage may have for one among them."""
    return str(int(at)) if isfinite(at) else str(at)
