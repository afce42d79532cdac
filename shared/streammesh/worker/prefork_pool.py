"""Celery's prefork pool, made prompt: a dead child is noticed at once, and a free one is written to at once.

Celery looks after its children when the pipe to one of them closes, and every five seconds. The pipe of a killed
child closes a moment before the kernel has its exit code; a look in that moment finds nothing, and what the child
was running was begun again only by the look five seconds later.

It writes to a child when the event loop has said that its pipe takes bytes: with short tasks two more system calls and
one more turn of the loop for each. The pipe of a child that waits for a task is empty, so there it writes directly. And
it writes the length of a task first, which wakes the child for nothing: a short one goes in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from select import PIPE_BUF
from typing import Any

from celery.concurrency import prefork
from celery.concurrency.asynpool import SCHED_STRATEGY_FAIR

from streammesh.worker.internals import CeleryAsynPool, written_in_one_piece

LOOK_AGAIN = (0.02, 0.2, 1.0)  # seconds after a pipe closed


class PromptAsynPool(CeleryAsynPool):
    """Looks again shortly after a child's pipe closed; gives tasks to children without asking the loop."""

    on_poll_start: Callable[[], None]

    def child_ended(self, hub: Any) -> None:
        """Look for its exit code once more, a moment later."""
        for delay in LOOK_AGAIN:
            hub.call_later(delay, self.maintain_pool)

    def writing_begins(self, hub: Any) -> None:
        """Write to children that wait without being asked to by the loop, and a short task in one piece."""
        self.put_by(self._in_one_piece)
        if self.sched_strategy != SCHED_STRATEGY_FAIR:  # any child may be given more than it runs
            return
        usual, write = self.on_poll_start, hub.consolidate_callback
        waiting, watched = self.outbound_buffer, hub.consolidate
        children, busy, written_to = self.pipes

        def on_poll_start() -> None:
            if waiting:
                free = [fd for fd in children if fd not in busy and fd not in written_to]
                for fd in free[: len(waiting)]:
                    write([fd])
            if waiting or not watched.isdisjoint(children):
                usual()

        self.on_poll_start = on_poll_start

    def _in_one_piece(self, put: Callable[[Any], None], job: Any) -> None:
        """Have a job that fits into a pipe whole, or does not go into it at all, written by one call."""
        put(job)
        written_in_one_piece(self.outbound_buffer[-1], PIPE_BUF)

    def flush(self) -> None:
        """As Celery's, which forgets what no child has begun: but not what lies in a child's pipe, for it will begin."""
        in_pipes = self.begin_in_pipes()
        super().flush()
        for job in in_pipes:
            self.know(job)


class TaskPool(prefork.TaskPool):
    """The pool."""

    Pool = PromptAsynPool
