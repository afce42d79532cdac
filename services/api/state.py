"""What the routes work with, opened by the application's lifespan and closed with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis.asyncio
from starlette.requests import HTTPConnection
from streammesh.health import Health
from streammesh.history.reader import HistoryReader
from streammesh.keys import Keys
from streammesh.notification_log import NotificationLog
from streammesh.settings import MeshSettings
from streammesh.tasks.records import Rows

from services.api.approvals import Approvals
from services.api.auth import Authenticator
from services.api.chunk_reader import ChunkBell, ChunkReader
from services.api.cursors import Cursors
from services.api.publish_endpoint import PublishEndpoint
from services.api.push.hub import Hub
from services.api.read_limit import ReadLimit
from services.api.report_store import ReportStore
from services.api.settings import ApiSettings
from services.api.shards.scope import SHARD
from services.api.status_cache import StatusCache
from services.api.tokens import Tokens
from services.api.type_catalogue import TypeCatalogue


@dataclass(frozen=True, slots=True)
class Once:
    """What a process has once, for all shards."""

    api: ApiSettings
    health: Health
    auth: Authenticator
    tokens: Tokens
    cursors: Cursors
    publishing: PublishEndpoint
    reports: ReportStore


@dataclass(slots=True)
class Wiring:
    """Everything a request needs, in one place."""

    mesh: MeshSettings
    api: ApiSettings
    health: Health
    status: StatusCache
    keys: Keys
    redis: redis.asyncio.Redis
    reading: ReadLimit
    rows: Rows
    history: HistoryReader | None
    log: NotificationLog
    auth: Authenticator
    tokens: Tokens
    approvals: Approvals
    cursors: Cursors
    hub: Hub
    chunks: ChunkReader
    bell: ChunkBell
    publishing: PublishEndpoint
    reports: ReportStore
    types: TypeCatalogue


def wiring_of(connection: HTTPConnection) -> Wiring:
    """The wiring of the application that serves this request; of several shards that of the one that it is about."""
    return wirings_of(connection)[connection.scope.get(SHARD, 0)]


def wirings_of(connection: HTTPConnection) -> Sequence[Wiring]:
    """The wirings of all shards. What the mesh has once is in the first."""
    state: Any = connection.app.state
    return cast("Sequence[Wiring]", state.wirings)
