"""Dramatiq: its Redis broker and results, 8 threads a process as it comes."""

import time

import dramatiq
from counting import hit
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from running import IO_SECONDS, PAYLOAD, REDIS, become, main, timed

WAITING_THREADS = 50  # for tasks that wait; the default for the others
broker = RedisBroker(url=REDIS)
broker.add_middleware(Results(backend=RedisBackend(url=REDIS)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(data: dict) -> None:
    """Do nothing."""
    hit()


@dramatiq.actor(store_results=True)
def io(data: dict) -> None:
    """Wait as for a quick network call."""
    time.sleep(IO_SECONDS)
    hit()


def fill(task: str, count: int) -> None:
    """Put `count` tasks into the queue."""
    for _ in range(count):
        {"noop": noop, "io": io}[task].send(PAYLOAD)


def work(task: str, processes: int) -> None:
    """Its own supervisor with `processes` workers."""
    threads = 8 if task == "noop" else WAITING_THREADS
    become("dramatiq", "with_dramatiq", "-p", str(processes), "-t", str(threads), "--skip-logging")


def latency(count: int) -> list[float]:
    """From enqueuing until the result is there."""
    return timed(lambda: noop.send(PAYLOAD).get_result(block=True, timeout=30_000), count)


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency)
