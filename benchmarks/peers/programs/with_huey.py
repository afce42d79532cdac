"""Huey: its Redis queue and results, 8 threads a process; a task that a killed worker had is lost."""

import huey_tasks
from running import PAYLOAD, become, main, spread, timed

WAITING_THREADS = 50


def fill(task: str, count: int) -> None:
    """Put `count` tasks into the queue."""
    for _ in range(count):
        getattr(huey_tasks, task)(PAYLOAD)


def work(task: str, processes: int) -> None:
    """A consumer with threads."""
    if processes > 1:
        return spread(task, processes)
    threads = 8 if task == "noop" else WAITING_THREADS
    return become("huey.bin.huey_consumer", "huey_tasks.huey", "-k", "thread", "-w", str(threads), "-q")


def latency(count: int) -> list[float]:
    """From enqueuing until the result is there; it asks every few milliseconds."""
    return timed(lambda: huey_tasks.noop(PAYLOAD).get(blocking=True, timeout=30, max_delay=0.02), count)


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
