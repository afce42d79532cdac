"""Threads for `def` handlers: batches there and back, and what becomes of exceptions raised into them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from streammesh.testing.conditions import wait_until
from streammesh.worker.handler_threads import HandlerThreads
from streammesh.worker.thread_exception import TaskStopped


@pytest.fixture
def threads() -> HandlerThreads:
    return HandlerThreads()


async def until(what: str, condition: Callable[[], object]) -> None:
    async def asked() -> object:
        return condition()

    await wait_until(what, asked)


class CountingLoop:
    """Counts how often other threads wake the running loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.woken = 0
        loop = asyncio.get_running_loop()
        usual = loop.call_soon_threadsafe

        def count(*args, **options):
            self.woken += 1
            return usual(*args, **options)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)


@pytest.mark.alone
async def test_a_batch_of_short_calls_is_run_by_few_threads_and_comes_back_in_few_wake_ups(
    threads, monkeypatch
):
    await threads.run(int)  # its first thread is there
    counted, ran_in = CountingLoop(monkeypatch), set()

    def short() -> int:
        ran_in.add(threading.get_ident())
        return 1

    assert sum(await asyncio.gather(*(threads.run(short) for _ in range(1000)))) == 1000
    assert len(ran_in) <= 250  # a few, mostly; how many start meanwhile is the system's choice
    assert counted.woken <= 700  # 1,000 without batches; dozens, or hundreds on busy cores


async def test_calls_that_wait_hold_up_none(threads):
    all_there = threading.Barrier(20)
    await asyncio.wait_for(asyncio.gather(*(threads.run(all_there.wait, 5) for _ in range(20))), 5)


@pytest.mark.alone
async def test_a_call_behind_one_that_hogs_the_interpreter_is_run_beside_it(threads):
    over = threading.Event()

    def hog() -> None:
        while not over.is_set():
            sum(range(1000))

    hogging = threads.start(hog, (), {})
    await threads.run(over.set)
    await hogging.ended()


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3), GeneratorExit(), KeyboardInterrupt()])
async def test_what_a_call_raises_is_raised(threads, raised):
    def fail() -> None:
        raise raised

    with pytest.raises(type(raised)) as caught:
        await threads.run(fail)
    assert caught.value is raised
    assert await threads.run(int) == 0  # and its thread goes on


async def test_stop_iteration_is_told_as_an_error(threads):
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.run(next, iter(()))


def naps(seconds: float) -> None:
    """Sleep in so many lines of Python."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.005)


async def test_an_interrupt_is_raised_in_the_thread_and_may_be_caught(threads):
    def patient() -> str:
        try:
            naps(10)
        except SoftTimeLimitExceeded:
            return "tidied up"
        return "ran through"

    call = threads.start(patient, (), {})
    await until("it has begun", lambda: call.begun)
    call.interrupt(SoftTimeLimitExceeded)
    assert await asyncio.wait_for(call.ended(), 5) == "tidied up"


async def test_a_cancelled_call_is_stopped_and_its_thread_serves_the_next(threads):
    ended, idents = [], []

    def slow() -> None:
        idents.append(threading.get_ident())
        try:
            naps(10)
        except TaskStopped:
            ended.append("stopped")
            raise

    task = asyncio.create_task(threads.run(slow))
    await until("it has begun", lambda: idents)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until("the thread has left it", lambda: ended and not threads.strays)
    assert idents[0] in [await threads.run(threading.get_ident) for _ in range(20)]


async def test_one_that_refuses_to_end_is_counted_until_it_does(threads, monkeypatch):
    monkeypatch.setattr("streammesh.worker.handler_threads.AGAIN_SECONDS", 0.02)
    caught, may_end, freed = [], threading.Event(), []
    threads.freed = lambda: freed.append(threads.strays)

    def stubborn() -> None:
        while not may_end.is_set():
            try:
                naps(10)
            except TaskStopped:
                caught.append(1)

    call = threads.start(stubborn, (), {})
    await until("it has begun", lambda: call.begun)
    call.stop()
    await until("it was told again and again", lambda: len(caught) > 3)
    assert threads.strays == 1
    may_end.set()
    await until("its place is free", lambda: freed)
    assert (threads.strays, freed) == (0, [0])


async def test_an_interrupt_that_comes_too_late_hits_nobody(threads):
    """Interrupted at every moment around its end, a call ends as itself or as interrupted, and its thread goes on."""
    outcomes = set()
    for n in range(300):
        call = threads.start(naps, (0.001,), {})
        # On a slow machine none ends within some milliseconds: now and then it has all the time it wants.
        await asyncio.sleep(0.2 if n % 50 == 49 else n * 1e-5)
        call.interrupt(SoftTimeLimitExceeded)
        try:
            await asyncio.wait_for(call.ended(), 5)
            outcomes.add("ended")
        except SoftTimeLimitExceeded:
            outcomes.add("interrupted")
        assert await asyncio.wait_for(threads.run(int), 5) == 0
    assert outcomes == {"ended", "interrupted"}
    assert threads.strays == 0


async def test_a_call_that_is_stopped_before_it_begins_never_does(threads):
    ran: list[Any] = []
    threads._waking = True  # as if a thread were on its way
    call = threads.start(ran.append, (1,), {})
    call.stop()
    threads._waking = False
    await threads.run(int)
    assert (ran, threads.strays) == ([], 0)
