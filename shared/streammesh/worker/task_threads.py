"""Threads for what Celery itself traces in the async pool: plain tasks, parts of workflows.

There they block no handler. A thread cannot be killed: its soft limit, its hard limit and its end by `revoke` are
exceptions that Python raises in it at its next line of Python, so one that sits in native code or in `time.sleep`
meets them as it comes back. Its task has ended for its caller by then; what it comes to does not count.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import structlog
from celery.exceptions import SoftTimeLimitExceeded

from streammesh.worker.thread_exception import AGAIN_SECONDS, TaskStopped, raise_in_thread

log = structlog.get_logger(__name__)


class ThreadJob:
    """One task in a thread, as Celery's request holds on to it. May be used from any thread."""

    def __init__(self, name: str) -> None:
        self.name, self.terminated, self._lock = name, False, threading.Lock()
        self._thread: int | None = None  # while the task is at work
        self._over = self._disturbed = False
        self._alarms: list[threading.Timer] = []

    def run(self, work: Callable[[], Any]) -> bool:
        """Do the work in this thread; answers whether the thread can be used for another."""
        try:
            with self._lock:
                self._thread = threading.get_ident()
                begins = not self.terminated
            if begins:
                work()
        except TaskStopped:
            pass
        except Exception:
            log.exception("pool.task_broke", task=self.name)
        finally:
            self._end()
        return not self._disturbed

    def _end(self) -> None:
        with self._lock:
            self._thread, self._over = None, True
        for alarm in self._alarms:
            alarm.cancel()

    def limit(
        self, soft: float | None, hard: float | None, tell: Callable[[bool, float], Any] | None
    ) -> None:
        """Raise SoftTimeLimitExceeded in it after `soft` seconds, and end it after `hard` ones; `tell` tells Celery."""
        if soft:
            self._alarm(soft, self._too_long_soft, soft, tell)
        if hard:
            self._alarm(hard, self._too_long, hard, tell)

    def _alarm(self, seconds: float, ring: Callable[..., None], *args: Any) -> None:
        alarm = threading.Timer(seconds, ring, args)
        alarm.daemon = True
        self._alarms.append(alarm)
        alarm.start()

    def _too_long_soft(self, seconds: float, tell: Any) -> None:
        if self._over:
            return
        if tell:
            _tell(tell, True, seconds)
        self._raise(SoftTimeLimitExceeded)

    def _too_long(self, seconds: float, tell: Any) -> None:
        if self._over:
            return
        self.terminate()  # first, so that it can do nothing more
        if tell:
            _tell(tell, False, seconds)

    def terminate(self, signal: Any = None) -> None:
        """End it, as far as a thread can be ended; Celery's request has ended or ends without its answer."""
        self.terminated = True
        threading.Thread(target=self._drive_out, name="end-of-task", daemon=True).start()

    def _drive_out(self) -> None:
        told = False
        while self._raise(TaskStopped):
            time.sleep(AGAIN_SECONDS)
            if not told and not self._over:
                told = True
                reason = "a thread cannot be killed: the task ends at its next line of Python, and has ended for its caller"
                log.warning("task.goes_on", task=self.name, reason=reason)

    def _raise(self, error: type[BaseException]) -> bool:
        """Raise an error in the thread; answers whether the task was still at work."""
        with self._lock:
            if self._thread is None:
                return not self._over
            self._disturbed = True
            raise_in_thread(self._thread, error)
            return True

    def get(self, *_: Any) -> None:
        """Celery's pools answer results here; what is awaited comes through the result backend."""


class TaskThreads:
    """Makes threads as they are needed, at most `limit` at work at once, and keeps them for what comes.

    Daemons: the process does not wait for them. One whose task was stopped and goes on is still at work.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line: deque[tuple[ThreadJob, Callable[[], Any]]] = deque()
        self._idle: list[SimpleQueue[tuple[ThreadJob, Callable[[], Any]]]] = []
        self._jobs: set[ThreadJob] = set()
        self._changed = threading.Condition()

    def start(self, job: ThreadJob, work: Callable[[], Any]) -> None:
        """Begin a job, as soon as fewer than `limit` are at work."""
        with self._changed:
            if len(self._jobs) >= self._limit:
                self._line.append((job, work))
                return
            self._jobs.add(job)
            inbox = self._idle.pop() if self._idle else None
        self._begin(job, work, inbox)

    def _begin(
        self,
        job: ThreadJob,
        work: Callable[[], Any],
        inbox: SimpleQueue[tuple[ThreadJob, Callable[[], Any]]] | None,
    ) -> None:
        if inbox is None:
            inbox = SimpleQueue()
            threading.Thread(target=self._work, args=(inbox,), name="task", daemon=True).start()
        inbox.put((job, work))

    def _work(self, inbox: SimpleQueue[tuple[ThreadJob, Callable[[], Any]]]) -> None:
        while True:
            job, work = inbox.get()
            usable = False
            try:
                usable = job.run(work)
            except (TaskStopped, SoftTimeLimitExceeded):  # it came too late to find the task
                job._end()
            finally:
                following = self._over(job, inbox if usable else None)
            if following:
                self._begin(*following)
            if not usable:
                return  # an exception may still be on its way to it

    def _over(self, job: ThreadJob, inbox: Any) -> Any:
        """Take a job off; answers the one that begins in its place, if one waits, and the thread for it."""
        with self._changed:
            self._jobs.discard(job)
            self._changed.notify_all()
            if self._line:
                following, work = self._line.popleft()
                self._jobs.add(following)
                return following, work, inbox
            if inbox is not None:
                self._idle.append(inbox)
            return None

    def drop_waiting(self) -> None:
        """Begin none of those that wait: the worker stops, and others take them."""
        with self._changed:
            self._line.clear()

    def count(self) -> int:
        """How many jobs are at work that have not ended for their callers."""
        return sum(not job.terminated for job in list(self._jobs))

    def wait_until_done(self) -> None:
        """Wait for what is at work and can be waited for."""
        with self._changed:
            while self.count():
                self._changed.wait(0.2)

    def terminate(self) -> None:
        """End all."""
        for job in list(self._jobs):
            job.terminate()


def _tell(tell: Callable[[bool, float], Any], soft: bool, seconds: float) -> None:
    try:
        tell(soft, seconds)
    except Exception:
        log.exception("pool.callback_broke")
