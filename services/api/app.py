"""Builds the application: clients are opened by its lifespan and closed with it; nothing exists at import time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Message, Scope
from streammesh.api_keys import ApiKeys
from streammesh.errors import MeshError
from streammesh.health import Echo, Health
from streammesh.history.reader import HistoryReader, RowsAndHistory
from streammesh.keys import Keys
from streammesh.notification_log import NotificationLog
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings
from streammesh.shards import each_shard
from streammesh.tasks.records import Rows

from services.api.approvals import Approvals
from services.api.auth import Authenticator
from services.api.call_batcher import CallBatcher
from services.api.chunk_reader import ChunkBell, ChunkReader
from services.api.cursors import Cursors
from services.api.json_answer import no_store
from services.api.mesh_gauges import MeshGauges
from services.api.middleware import Door, handle
from services.api.openapi import describe
from services.api.parameters import only_known_parameters
from services.api.presence import Presence
from services.api.problems import Problem
from services.api.publish_endpoint import PublishEndpoint, StoredIn
from services.api.push.hub import Hub
from services.api.read_limit import ReadLimit
from services.api.report_store import open_report_store
from services.api.revocation_watch import RevocationWatch
from services.api.routes import (
    about,
    api_keys,
    approvals,
    asyncapi,
    audit,
    backfills,
    cancellation,
    dead_letters,
    docs,
    events,
    failures,
    flow,
    health,
    manifests,
    metrics,
    notifications,
    own_key,
    reports,
    schedules,
    service_detail,
    signals,
    status,
    subscriptions,
    task_list,
    task_streams,
    tasks,
    types,
    ui,
    url_services,
    users,
    webhooks,
)
from services.api.routes import (
    tokens as token_routes,
)
from services.api.settings import ApiSettings, StoreSettings
from services.api.shards.door import ShardDoor
from services.api.source_rules import SourceRules
from services.api.state import Once, Wiring
from services.api.status_cache import StatusCache
from services.api.tokens import Tokens
from services.api.type_catalogue import TypeCatalogue

DESCRIPTION = """
Services say what happened; the right workers run; whoever waits is told.

Every request carries `Authorization: Bearer <key>`. Every error is a problem document (RFC 9457) that says what
to do; its `type` leads to an explanation. A request that is refused has changed nothing.
"""


def create_app(
    mesh: MeshSettings, api: ApiSettings, store: StoreSettings, own_health: Health | None = None
) -> Door:
    """The whole application as ASGI; `.app` is the FastAPI application within. It adds its parts to `own_health`."""
    known = own_health or Health()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with _wired(mesh, api, store, known) as wirings:
            app.state.wiring, app.state.wirings = wirings[0], wirings
            await _match_once(app)
            yield

    app = FastAPI(
        title="streammesh",
        version="1",
        summary="Publish events, ask what became of them, be told as it happens.",
        description=DESCRIPTION,
        lifespan=lifespan,
        dependencies=[Depends(no_store)],
        openapi_url=None,  # routes/docs.py has it, made in a thread
        docs_url=None,  # and this without a third party's script
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    # The order matters: ids may hold slashes, so the longer paths stand before the shorter ones.
    for room in (
        notifications,
        events,
        task_list,
        task_streams,
        tasks,
        cancellation,
        signals,
        dead_letters,
        backfills,
        subscriptions,
        flow,
        users,
        reports,
        metrics,
        status,
        service_detail,
        failures,
        schedules,
        manifests,
        own_key,
        api_keys,
        token_routes,
        types,
        audit,
        webhooks,
    ):
        app.include_router(room.router, dependencies=[Depends(only_known_parameters)])
    for router in (webhooks.secret_router, url_services.router, url_services.result_router):
        app.include_router(router, dependencies=[Depends(only_known_parameters)])
    for room in (
        health,
        docs,
        asyncapi,
        ui,
        approvals,
        about,
    ):  # whatever a probe or a browser adds, it is answered
        app.include_router(room.router)
    for kind in (Problem, MeshError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, handle)
    app.mount("/docs/assets", docs.assets(), name="docs-assets")
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return Door(app, api, ShardDoor(app, lambda: app.state.wirings) if mesh.shards > 1 else app)


async def _match_once(app: FastAPI) -> None:
    """Ask for what is not there: the framework makes its routes at its first request, which takes a fifth of a second."""
    scope: Scope = {
        **{"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "headers": []},
        **{"path": "/-", "raw_path": b"/-", "query_string": b"", "root_path": ""},
        **{"client": None, "server": None},
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        pass

    await app(scope, receive, send)


@asynccontextmanager
async def _wired(
    mesh: MeshSettings, api: ApiSettings, store: StoreSettings, health: Health
) -> AsyncIterator[list[Wiring]]:
    """The wirings of all shards. What the mesh has once is the first one's, and the others have it too."""
    shards = each_shard(mesh)
    async with AsyncExitStack() as stack:
        parts: list[StoredIn] = []
        for shard in shards:
            publisher = open_async(shard, "api-publish")
            calls = CallBatcher(publisher, shard.redis_timeout.total_seconds())
            stack.push_async_callback(publisher.aclose)
            stack.push_async_callback(calls.aclose)
            parts.append(StoredIn(shard, Keys(shard.namespace), calls))
        client = open_async(shards[0], "api")
        stack.push_async_callback(client.aclose)
        keys, reading = Keys(shards[0].namespace), ReadLimit(mesh.redis_timeout.total_seconds())
        api_keys, cursors = ApiKeys(client, keys), Cursors(client, keys)
        tokens = Tokens(cursors, api_keys)
        auth = Authenticator(api_keys, tokens, api, reading, believes_while_away=mesh.shards > 1)
        sources = SourceRules(client, keys, reading)
        stack.push_async_callback(sources.aclose)
        stack.push_async_callback(auth.aclose)
        echo, stuck = Echo(asyncio.get_running_loop()), mesh.stuck_after.total_seconds()
        health.lives_while("loop", lambda: echo.silent_for(stuck))
        once = Once(
            api=api,
            health=health,
            auth=auth,
            tokens=tokens,
            cursors=cursors,
            publishing=PublishEndpoint(mesh, api, parts, auth, sources),
            reports=open_report_store(store.store_url),
        )
        wirings = [
            await stack.enter_async_context(_wired_shard(shard, once, number if mesh.shards > 1 else None))
            for number, shard in enumerate(shards)
        ]
        gauges = MeshGauges([(wiring.status, wiring.hub) for wiring in wirings], shards[0])
        health.measured_by(gauges.measure)
        watch = RevocationWatch(api_keys, [wiring.hub for wiring in wirings], reading, api)
        watching = asyncio.create_task(watch.run())

        async def no_more() -> None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

        stack.push_async_callback(no_more)
        once.publishing.when_done = lambda key, one, shard, seconds: events.state_of(
            wirings[shard], key, one.id, one.source, seconds
        )
        yield wirings


@asynccontextmanager
async def _wired_shard(mesh: MeshSettings, once: Once, number: int | None) -> AsyncIterator[Wiring]:
    """The wiring of one shard, with a `number` where there are several."""
    keys, timeout = Keys(mesh.namespace), mesh.redis_timeout.total_seconds()
    async with AsyncExitStack() as stack:
        client, reader = open_async(mesh, "api"), open_async(mesh, "api-notifications", blocking=True)
        stack.push_async_callback(reader.aclose)
        stack.push_async_callback(client.aclose)
        reading, notification_log = ReadLimit(timeout), NotificationLog(client, keys)
        presence = Presence(client, keys, timeout)
        await presence.begin()
        stack.push_async_callback(presence.end)
        hub = Hub(notification_log, reader, keys, once.api, reading, timeout)
        stack.push_async_callback(hub.stop)
        history = HistoryReader(mesh.history_url) if mesh.history_url else None
        if history is not None:
            stack.callback(history.close)
        bell = ChunkBell(reader, keys)
        stack.push_async_callback(bell.stop)
        looks = StatusCache(client, keys, mesh, reading)
        if number is None:
            once.health.works_while("redis", presence.why_not_ready)
        else:  # a balancer that took this process away would take the other shards away as well
            once.health.works_while_any(f"redis of shard {number}", presence.why_not_ready)
        if not number:
            once.health.works_while("server", lambda: "is stopping" if hub.stopping else None)
        yield Wiring(
            mesh=mesh,
            api=once.api,
            health=once.health,
            status=looks,
            keys=keys,
            redis=client,
            reading=reading,
            rows=RowsAndHistory(client, keys, history) if history else Rows(client, keys),
            history=history,
            log=notification_log,
            auth=once.auth,
            tokens=once.tokens,
            approvals=Approvals(once.cursors),
            hub=hub,
            chunks=ChunkReader(client, keys, reading),
            bell=bell,
            cursors=once.cursors,
            publishing=once.publishing,
            reports=once.reports,
            types=TypeCatalogue(client, keys, reading),
        )
