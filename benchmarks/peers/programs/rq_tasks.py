"""The tasks that RQ imports by name."""

import time

from counting import hit
from running import IO_SECONDS


def noop(data: dict) -> None:
    """Do nothing."""
    hit()


def io(data: dict) -> None:
    """Wait as for a quick network call."""
    time.sleep(IO_SECONDS)
    hit()
