"""Queues tasks again that have not ended and lie nowhere. Any number may run."""

from __future__ import annotations

import asyncio
from functools import partial

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.clock import Clock
from streammesh.errors import InvalidEvent
from streammesh.events import envelope
from streammesh.events.envelope import Event
from streammesh.keys import Keys
from streammesh.redisio.client import is_unavailable
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Delivery, Subscription
from streammesh.subscriptions.registry import read_manifests
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.records import TaskRow
from streammesh.tasks.settlement import Cause, Ending, Settlement, carry_out_async
from streammesh.tasks.task import Failure, Holder

from services.dispatcher.delivery_plan import Encode
from services.dispatcher.open_tasks import FIRST, Cursor, OpenTasks, Vanished
from services.dispatcher.settings import DispatcherSettings

log = structlog.get_logger(__name__)
PAGES = 10  # of one service's tasks in one look, so that a long backlog costs no more than a short one
NOT_KEPT = Failure("its queue entry vanished, and its event is not kept any more", "Vanished")


class Janitor:
    """Compares the open tasks with the queues now and then."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        settings: MeshSettings,
        own: DispatcherSettings,
        encode: Encode,
        clock: Clock,
    ) -> None:
        self._client, self._keys, self._own = client, keys, own
        self._settlement, self._open = Settlement(keys, settings, clock), OpenTasks(client, keys, settings)
        self._encode = encode
        self._cursors: dict[str, Cursor] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(self._own.janitor_every.total_seconds())
            await self.look()

    async def look(self) -> int:
        """Look at some tasks of every service, going on where it stopped; answers how many were queued again."""
        before = await DueSet(self._client, self._keys).now_ms()
        before -= round(self._own.janitor_after.total_seconds() * 1000)
        queued = 0
        for manifest in await read_manifests(self._client, self._keys):
            wants = {one.task: one for one in manifest.subscriptions}
            service = manifest.service
            try:
                for _ in range(PAGES):
                    lost, cursor = await self._open.look(service, before, self._cursors.get(service, FIRST))
                    for found in lost:
                        queued += await self._try_again(found, wants.get(found.row.name))
                    self._cursors[service] = cursor or FIRST
                    if cursor is None:
                        break
            except ResponseError as error:  # something else lies where its open tasks should
                if is_unavailable(error):
                    raise
                log.error("open_tasks.unreadable", service=service, reason=str(error))
        return queued

    async def _try_again(self, found: Vanished, wants: Subscription | None) -> bool:
        """As `_queue_again`; what cannot be done for one task, whose record may be garbage, stops no other."""
        try:
            return await self._queue_again(found, wants)
        except Exception as error:
            if is_unavailable(error):
                raise
            log.error("task.not_queued_again", task_id=found.row.id, reason=repr(error)[:200])
            return False

    async def _queue_again(self, found: Vanished, wants: Subscription | None) -> bool:
        row = found.row
        if row.wanted_cancelled:
            return await self._end(row, Ending.cancelled())
        event = await self._event(row)
        if event is None:
            return await self._end(row, Ending.failed(NOT_KEPT, Cause.VANISHED))
        known = wants or Subscription(row.service, row.name, event.type)
        encoded = self._encode(Delivery(known, row.id), event.to_json(), event.priority)
        call = self._open.queue_again_call(found, encoded.header, encoded.body)
        done = await lua.run(self._client, call)
        if done:
            log.warning("task.queued_again", task_id=row.id, task=row.name, state=row.state)
        return done

    async def _event(self, row: TaskRow) -> Event | None:
        about = row.event
        stored = await self._client.xrange(self._keys.events(about["domain"]), about["entry"], about["entry"])
        try:
            return envelope.from_json(stored[0][1][b"e"]) if stored else None
        except (InvalidEvent, KeyError, IndexError):
            return None

    async def _end(self, row: TaskRow, ending: Ending) -> bool:
        """End a task, if it still lies nowhere; answers that it was not queued again."""
        said = {"attempt": row.attempt}
        steps = self._settlement.settle(
            row.ref, row.place, Holder.NOBODY, ending, said=said, attempts=row.attempt
        )
        await carry_out_async(steps, partial(lua.run, self._client))
        return False
