"""What the routes work with, opened by the application's lifespan and closed with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import redis.asyncio
import structlog
from starlette.requests import HTTPConnection
from streammesh.errors import MeshUnavailable
from streammesh.events.publisher import unavailable_for
from streammesh.health import Health
from streammesh.keys import Keys
from streammesh.lua import is_wrong_type
from streammesh.notifications import NotificationLog
from streammesh.redisio.client import is_unavailable
from streammesh.settings import MeshSettings
from streammesh.tasks.records import Rows

from services.api.settings import ApiSettings

if TYPE_CHECKING:
    from services.api.auth import Authenticator
    from services.api.cursors import Cursors
    from services.api.hub import Hub
    from services.api.publish_endpoint import Publishing
    from services.api.report_store import ReportStore
    from services.api.routes.status import Looks

READS_AT_ONCE = 32  # connections to Redis that reading requests of one process use at most


class Reading:
    """`async with reading():` around questions to Redis, so that a request is answered at once when it is away.

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


@dataclass(slots=True)
class Wiring:
    """Everything a request needs, in one place."""

    mesh: MeshSettings
    api: ApiSettings
    health: Health
    looks: Looks
    keys: Keys
    redis: redis.asyncio.Redis
    reading: Reading
    rows: Rows
    log: NotificationLog
    auth: Authenticator
    cursors: Cursors
    hub: Hub
    publishing: Publishing
    reports: ReportStore


def of_no_request() -> Context:
    """The context for a task that outlives the request that started it: its logs carry no request id."""
    context = copy_context()
    context.run(structlog.contextvars.unbind_contextvars, "request_id")
    return context


def wiring_of(connection: HTTPConnection) -> Wiring:
    """The wiring of the application that serves this request."""
    state: Any = connection.app.state
    return cast("Wiring", state.wiring)
