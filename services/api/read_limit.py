"""The bound on questions to Redis: how long one may take, and how many are under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streammesh.errors import MeshUnavailable
from streammesh.events.publisher import unavailable_for
from streammesh.lua import is_wrong_type
from streammesh.redisio.client import is_unavailable

READS_AT_ONCE = 32  # connections to Redis that reading requests of one process use at most


class ReadLimit:
    """`async with limit():` around questions to Redis, so that a request is answered at once when it is away.

    Raises MeshUnavailable when what is done within fails because Redis is away, or takes longer than
    `seconds`, the wait for one of the few connections included.
    """

    def __init__(self, seconds: float, at_once: int = READS_AT_ONCE) -> None:
        self._seconds, self._slots = seconds, asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._seconds), self._slots:
                yield
        except TimeoutError as error:
            raise MeshUnavailable(f"Redis did not answer within {self._seconds:g} s") from error
        except Exception as error:
            if is_unavailable(error) or is_wrong_type(error):  # the dispatcher sets aside what lies there
                raise unavailable_for(error) from error
            raise
