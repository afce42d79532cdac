"""What simulated processes leave behind as they are killed is nobody else's business."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def bury_the_killed() -> Iterator[None]:
    """Collect connections that nobody closed, since their processes were killed, before a test of another file meets them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.unfreeze()  # what was there as schedules began is looked through again
        while gc.collect() > 100:  # what ends with one turn may let go of more
            pass
