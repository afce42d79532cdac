"""Deliveries under way on the async pool's loop: each an asyncio task from hand-over to outcome.

They come over from Celery's consumer a batch at a time, so what a read brought is claimed in one call, and what
ends in one turn of the loop is finished in one call and let go of together.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from typing import Any

import structlog
from celery.worker import state as worker_state

from streammesh import logs
from streammesh.tasks.task import AttemptOutcome
from streammesh.worker.delivery_task import PAUSE_SECONDS
from streammesh.worker.fast_request import becomes_current
from streammesh.worker.handler_threads import HandlerThreads
from streammesh.worker.refs import queue_place, task_ref
from streammesh.worker.request import MeshRequest
from streammesh.worker.running_handlers import was_cancelled

log = structlog.get_logger(__name__)


class Flights:
    """Runs requests on one loop, at most `limit` at once. `running` has the pool's asyncio tasks.

    A request that waits for its turn has not begun: it is claimed when it does. A handler whose attempt has ended and
    whose thread goes on all the same keeps its place; see `handler_threads.py`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        running: set[asyncio.Task[Any]],
        limit: int,
        threads: HandlerThreads,
    ) -> None:
        self._loop, self._running, self._limit, self._threads = loop, running, limit, threads
        threads.freed = self._fill_soon
        self._coming: list[MeshRequest] = []
        self._waiting: deque[MeshRequest] = deque()
        self._filling = self._closed = False
        self._gone: list[MeshRequest] = []

    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    def accept(self, request: MeshRequest) -> bool:
        """Take a request in, from Celery's thread; answers whether it is the first since the last hand-over."""
        self._coming.append(request)
        return len(self._coming) == 1

    def hand_over(self) -> None:
        """Begin what was accepted."""
        coming, self._coming = self._coming, []
        if coming:
            self._loop.call_soon_threadsafe(self._take, coming)

    def _take(self, requests: list[MeshRequest]) -> None:
        self._waiting += requests
        if self._closed:
            self.close()
        self._fill()

    def _fill(self) -> None:
        """Begin what waits, as far as there is room."""
        self._filling = False
        waiting, running = self._waiting, self._running
        while waiting and len(running) + self._threads.strays < self._limit:
            self._begin(waiting.popleft())

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        self._fill_soon()

    def _fill_soon(self) -> None:
        if self._waiting and not self._filling:
            self._filling = True
            self._loop.call_soon(self._fill)

    def _begin(self, request: MeshRequest) -> None:
        job = request.job
        if request.id in worker_state.revoked and not job.terminated:
            self._loop.create_task(self._threads.run(request.revoked))
        elif not job.terminated:
            request.time_start = time.time()
            worker_state.task_accepted(request)
            self._running.add(job.run(self._loop, self._fly(request), self._over))
            hard = request.time_limits[0] or request.task.time_limit
            if hard:
                job.limit(hard, request.on_timeout)

    def close(self) -> None:
        """Begin no more, on the loop: the worker stops, and what waits here is for others to take at once."""
        self._closed = True
        waiting, self._waiting = self._waiting, deque()
        by_keeper: dict[Any, list[str]] = defaultdict(list)
        for request in waiting:
            worker_state.task_ready(request)
            if keeper := getattr(
                request.message.channel, "keeper", None
            ):  # other brokers see the connection close
                by_keeper[keeper].append(request.message.delivery_tag)
        for keeper, tags in by_keeper.items():
            keeper.give_back(tags)

    async def _fly(self, request: MeshRequest) -> None:
        try:
            outcome = await self._deliver(request)
        except Exception:
            # A ledger call broke in a way that waiting does not mend. Acknowledging would lose the task.
            log.exception("ledger.broke")
            await asyncio.sleep(PAUSE_SECONDS)
            request.give_up()
            return
        except GeneratorExit:
            raise  # the loop is gone
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and was_cancelled(request.job.task):
                raise  # revoked, over its hard limit, or the worker ends: whoever did that ends the request
            await self._threads.run(request.broke_off, error)
            return
        if request.ended(outcome):
            if not self._gone:
                self._loop.call_soon(self._let_go)
            self._gone.append(request)

    async def _deliver(self, request: MeshRequest) -> AttemptOutcome:
        becomes_current(request)
        delivery, raw = request.task, request.envelope
        ref = task_ref(request.id, delivery.subscription, raw)
        place = queue_place(request.tag, ref.service)
        event = ref.event
        logs.work_on(task_id=ref.task_id, task=ref.name, event_id=event.id, event_type=event.type)
        request.tell_begin()
        outcome: AttemptOutcome = await delivery.deliver(ref, place, request.worker)
        if outcome is AttemptOutcome.NOT_HANDED_OVER:
            outcome = await self._threads.run(delivery.park_carried, ref, raw)
        return outcome

    def _let_go(self) -> None:
        gone, self._gone = self._gone, []
        by_qos: dict[Any, list[str]] = defaultdict(list)
        for request in gone:
            by_qos[request.message.channel.qos].append(request.message.delivery_tag)
        for qos, tags in by_qos.items():
            qos.settled_all(tags)
