"""The tasks that Huey's consumer imports by name."""

import time

from counting import hit
from huey import RedisHuey
from running import IO_SECONDS, REDIS

huey = RedisHuey("bench", url=REDIS, results=True)


@huey.task(name="noop")
def noop(data: dict) -> bool:
    """Do nothing; None would not be kept as a result."""
    hit()
    return True


@huey.task(name="io")
def io(data: dict) -> bool:
    """Wait as for a quick network call."""
    time.sleep(IO_SECONDS)
    hit()
    return True
