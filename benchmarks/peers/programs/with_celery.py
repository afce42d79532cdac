"""Celery as it comes, over Redis: its own transport and result backend, results on."""

import json
import time

import redis
from celery import Celery
from counting import hit
from running import IN_FLIGHT, IO_SECONDS, PAYLOAD, REDIS, become, main, timed

STREAM, GROUP = "events", "bench"
app = Celery("bench", broker=REDIS, backend=REDIS.removesuffix("0") + "1")
app.conf.broker_connection_retry_on_startup = True


@app.task(name="noop")
def noop(data: dict) -> None:
    """Do nothing."""
    hit()


@app.task(name="io")
def io(data: dict) -> None:
    """Wait as for a quick network call."""
    time.sleep(IO_SECONDS)
    hit()


def fill(task: str, count: int) -> None:
    """Put `count` tasks into the queue."""
    for _ in range(count):
        app.tasks[task].delay(PAYLOAD)


def work(task: str, processes: int) -> None:
    """Prefork for tasks that compute, threads for those that wait."""
    pool = (
        ("-P", "prefork", "-c", str(processes)) if task == "noop" else ("-P", "threads", "-c", str(IN_FLIGHT))
    )
    become("celery", "-A", "with_celery", "worker", "-l", "ERROR", *pool)


def latency(count: int) -> list[float]:
    """From enqueuing until the result is there."""
    return timed(lambda: noop.delay(PAYLOAD).get(timeout=30), count)


def events(count: int) -> None:
    """Fill the stream that `handoff` reads with CloudEvents of the mesh's kind."""
    client = redis.Redis.from_url(REDIS)
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    for first in range(0, count, 1000):
        pipe = client.pipeline(transaction=False)
        for n in range(first, min(count, first + 1000)):
            event = {
                "specversion": "1.0",
                "id": str(n),
                "source": "bench",
                "type": "bench.noop",
                "data": PAYLOAD,
            }
            pipe.xadd(STREAM, {"e": json.dumps(event)})
        pipe.execute()


def handoff() -> None:
    """The dispatcher that one would write first: read a batch, `send_task` and acknowledge each event."""
    client = redis.Redis.from_url(REDIS)
    while True:
        for _, entries in client.xreadgroup(GROUP, "one", {STREAM: ">"}, count=100, block=1000) or ():
            for position, fields in entries:
                app.send_task("noop", args=[json.loads(fields[b"e"])], ignore_result=True)
                client.xack(STREAM, GROUP, position)
                hit()


if __name__ == "__main__":
    main(fill=fill, work=work, latency=latency, events=events, handoff=handoff)
