"""The threads pool's own decisions: who means it, what it does when handlers cannot be stopped, how many tasks run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from celery.concurrency.thread import TaskPool as CelerysThreads
from streammesh.service import Service
from streammesh.settings import MeshSettings
from streammesh.testing.conditions import wait_until, wait_until_sync
from streammesh.worker import async_pool
from streammesh.worker.member import _use_our_threads
from streammesh.worker.task_threads import TaskThreads, ThreadJob
from streammesh.worker.threads_pool import TaskPool


def service(**settings: Any) -> Service:
    made = MeshSettings(_env_file=None, **settings)
    return Service("threading", pool="threads", settings=made)


@pytest.mark.parametrize("chosen", ["threads", CelerysThreads])
def test_on_celerys_command_line_threads_are_the_meshs(chosen):
    options = {"pool_cls": chosen}
    _use_our_threads(
        Service("any", pool="prefork", settings=MeshSettings(_env_file=None)).celery_app, options
    )
    assert options == {"pool_cls": "streammesh.worker.threads_pool:TaskPool", "concurrency": 32}


def test_other_pools_are_left_as_they_are():
    options = {"pool_cls": "solo"}
    _use_our_threads(service().celery_app, options)
    assert options == {"pool_cls": "solo"}


def test_its_places_are_32_or_what_is_set():
    assert service().celery_app.conf.worker_concurrency == 32
    assert service(concurrency=5).celery_app.conf.worker_concurrency == 5


async def until(what: str, condition: Callable[[], object]) -> None:
    async def asked() -> object:
        return condition()

    await wait_until(what, asked)


async def test_a_process_in_which_nothing_but_stopped_handlers_runs_ends_itself(monkeypatch):
    monkeypatch.setattr(async_pool, "STRAY_SECONDS", 0.2)
    monkeypatch.setattr(async_pool, "LOOK_SECONDS", 0.05)
    ended: list[str] = []
    monkeypatch.setattr(async_pool, "end_process", ended.append)
    app = service().celery_app
    pool = TaskPool(limit=2, app=app)
    pool.start()
    may_end = threading.Event()

    async def begin() -> list[Any]:
        return [pool.handlers.start(may_end.wait, (), {}) for _ in range(2)]

    calls = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begin(), pool.loop))
    try:
        await until("both are at work", lambda: all(call.begun for call in calls))
        pool.loop.call_soon_threadsafe(calls[0].stop)
        await asyncio.sleep(0.5)
        assert not ended, "one place is left"
        pool.loop.call_soon_threadsafe(calls[1].stop)
        await until("it ends", lambda: ended)
        assert "each of its 2 places" in ended[0]
    finally:
        may_end.set()
        pool.stop()


def test_of_plain_tasks_as_many_run_at_once_as_there_are_places():
    threads = TaskThreads(2)
    gate, at_work, most = threading.Semaphore(0), [], []

    def work() -> None:
        at_work.append(1)
        most.append(len(at_work))
        gate.acquire()
        at_work.pop()

    for _ in range(6):
        threads.start(ThreadJob("task"), work)
    wait_until_sync("two are at work", lambda: len(at_work) == 2)
    for _ in range(6):
        gate.release()
    wait_until_sync("all have ended", lambda: len(most) == 6 and not threads.count())
    assert max(most) == 2


def test_what_waits_for_a_place_is_not_begun_once_the_worker_stops():
    threads = TaskThreads(1)
    gate = threading.Event()
    begun: list[int] = []

    def begin() -> None:
        begun.append(1)
        gate.wait()

    for _ in range(3):
        threads.start(ThreadJob("task"), begin)
    threads.drop_waiting()
    gate.set()
    threads.wait_until_done()
    assert begun == [1]
