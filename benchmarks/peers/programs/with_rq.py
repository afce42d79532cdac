"""RQ: workers that do not fork for each job, results kept."""

import redis
import rq_tasks
from rq import Queue
from running import PAYLOAD, REDIS, become, main, spread, timed

BATCH = 500


def fill(task: str, count: int) -> None:
    """Put `count` jobs into the queue."""
    queue = Queue(connection=redis.Redis.from_url(REDIS))
    for first in range(0, count, BATCH):
        queue.enqueue_many(
            [
                Queue.prepare_data(getattr(rq_tasks, task), (PAYLOAD,))
                for _ in range(min(BATCH, count - first))
            ]
        )


def work(task: str, processes: int) -> None:
    """Its own worker."""
    if processes > 1:
        return spread(task, processes)
    return become("rq.cli", "worker", "-u", REDIS, "-w", "rq.SimpleWorker", "--quiet", "default")


def latency(count: int) -> list[float]:
    """From enqueuing until the result is there."""
    queue = Queue(connection=redis.Redis.from_url(REDIS))
    return timed(lambda: queue.enqueue(rq_tasks.noop, PAYLOAD).latest_result(timeout=30), count)


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
