"""Ends tasks as folded that a run of their key took with it (`debounce`)."""

from __future__ import annotations

import asyncio

import redis.asyncio
import structlog
from redis.exceptions import ResponseError
from streammesh import lua
from streammesh.keys import Keys
from streammesh.lines.folds import folds_call
from streammesh.redisio.answers import there
from streammesh.redisio.client import is_unavailable
from streammesh.roles import woken
from streammesh.settings import MeshSettings
from streammesh.tasks.records import Rows
from streammesh.tasks.settlement import Ending, Settlement
from streammesh.tasks.task import Holder, LedgerAnswer

log = structlog.get_logger(__name__)
LONGEST_SLEEP = 5.0  # seconds; what was told in a moment of no connection is seen then


class Folder:
    """Looks when it is told that a run took others, and now and then all the same. Any number may run.

    Each task ends in one step, which looks again whether it waits in its line. A run that took many is told of in pages;
    what a dispatcher that was killed left undone stands in the line still.
    """

    def __init__(self, client: redis.asyncio.Redis, keys: Keys, settings: MeshSettings) -> None:
        self._client, self._keys = client, keys
        self._rows, self._settlement = Rows(client, keys), Settlement(keys, settings)
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Fold for ever."""
        while True:
            self.changed.clear()
            await self.run_once()
            await woken(self.changed, LONGEST_SLEEP)

    async def run_once(self) -> None:
        """Fold all that is to be folded now; what cannot be read of one subscription holds up no other."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.smembers(self._keys.folding())
        [found] = await pipeline.execute(raise_on_error=False)
        for name in sorted(there(found, set())):
            task, folded, more = name.decode("utf-8", "replace"), 0, True
            try:
                while more:
                    more, count = await self._fold(task)
                    folded += count
            except ResponseError as error:
                if is_unavailable(error):
                    raise
                log.error("flow.unreadable", subscription=task, reason=str(error)[:200])
            if folded:
                log.info("tasks.folded", subscription=task, count=folded)

    async def _fold(self, name: str) -> tuple[bool, int]:
        """Fold a page of a subscription; answers whether there may be more, and how many tasks these were."""
        more, folds = await lua.run(self._client, folds_call(self._keys, name))
        rows = {row.id: row for row in await self._rows.tasks([fold.task for fold in folds])}
        calls = [
            self._settlement.call(row.ref, row.place, Holder.IN_LINE, Ending.folded(fold.run))
            for fold in folds
            if (row := rows.get(fold.task)) is not None
        ]
        answers = iter(await lua.run_many(self._client, calls))
        for fold in folds:
            answer = next(answers) if fold.task in rows else None
            if isinstance(answer, Exception):
                if is_unavailable(answer) or not isinstance(answer, ResponseError):
                    raise answer
                log.error("task.not_folded", task_id=fold.task[:64], reason=str(answer)[:200])
            if answer is None or isinstance(answer, Exception) or answer.answer is not LedgerAnswer.DONE:
                # Its row is gone or garbage, or it has ended: nothing of it stands in line any more.
                await self._client.zrem(self._keys.flow_line(name), fold.member)
        return more, len(folds)
