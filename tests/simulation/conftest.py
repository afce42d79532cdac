"""What simulated processes leave behind as they are killed is nobody else's business."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from redis.asyncio.connection import AbstractConnection

from tests.simulation.server import HOST


@pytest.fixture(autouse=True, scope="module")
def bury_the_killed() -> Iterator[None]:
    """Take their sockets from connections that nobody closed, since their processes were killed.

    What a cancelled task of such a process still refers to is collected at some time within another file's test, which
    would be told of it.
    """
    yield
    gc.unfreeze()  # what was there as schedules began
    for thing in gc.get_objects():
        if isinstance(thing, AbstractConnection) and str(getattr(thing, "host", "")).startswith(HOST):
            thing._reader = thing._writer = None
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests of this folder collect what simulated processes left, which nobody closed."""
    for item in items:
        if item.path.parent.name == "simulation":
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
