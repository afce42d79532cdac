"""Wires and runs the archiver: `python -m services.archiver`."""

from __future__ import annotations

import asyncio
import sys

import structlog
from sqlalchemy.exc import SQLAlchemyError
from streammesh import logs
from streammesh.group_link import tell_health
from streammesh.health import Echo, Health, Pulse
from streammesh.history.engine import said
from streammesh.history.store import HistoryStore
from streammesh.keys import Keys
from streammesh.process_group import serve_all_shards
from streammesh.redisio.client import open_async
from streammesh.redisio.heartbeat import OVERDUE_SECONDS, process_name, show_life
from streammesh.redisio.inspector import start_inspecting
from streammesh.redisio.mesh_format import meet
from streammesh.roles import keep_on, run_until_stopped
from streammesh.settings import MeshSettings, load_settings

from services.archiver.archiver import LONGEST_WAIT, Archiver
from services.archiver.keepers import Keepers
from services.archiver.settings import ArchiverSettings
from services.archiver.stream_group import StreamGroup

log = structlog.get_logger(__name__)
ROLE = "archiver"


async def archive(settings: MeshSettings, own: ArchiverSettings, stop: asyncio.Event) -> None:
    """Run every role of an archiver until `stop` is set."""
    assert settings.history_url is not None
    keys, store = Keys(settings.namespace), HistoryStore(settings.history_url)
    health, redis_answers, pulse = Health(), Pulse(), Pulse("the history was not reached yet")
    echo, stuck = Echo(asyncio.get_running_loop()), settings.stuck_after.total_seconds()
    health.lives_while("loop", lambda: echo.silent_for(stuck))
    health.works_while("redis", lambda: redis_answers.waits(OVERDUE_SECONDS))
    health.works_while("history", lambda: pulse.waits(stuck))
    tell_health(health, settings)
    client = open_async(settings, ROLE)
    blocking = open_async(settings, f"{ROLE}-ears", blocking=True)
    await meet(client, keys, health, stop)
    group = StreamGroup(client, blocking, process_name(ROLE), settings.redis_timeout)
    archiver = Archiver(client, group, keys, settings, own, store, pulse)
    keepers = Keepers(client, keys, settings, own, store)

    async def work() -> None:
        await migrated(store)
        log.info("archiver.ready")
        async with asyncio.TaskGroup() as roles:
            roles.create_task(keep_on("archiver", archiver.run))
            roles.create_task(keep_on("keepers", keepers.run))

    roles = [
        keep_on("work", work),
        keep_on("heartbeat", lambda: show_life(client, keys, ROLE, redis_answers)),
    ]
    tasks = [asyncio.create_task(role) for role in roles]
    health.lives_while("roles", lambda: "a role has ended" if any(task.done() for task in tasks) else None)
    await stop.wait()
    health.lives_while("roles", lambda: None)
    health.works_while("history", lambda: "it is stopping")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(store.close)
    await client.aclose()
    await blocking.aclose()
    log.info("archiver.stopped")


async def migrated(store: HistoryStore) -> None:
    """Bring the tables up to date, however long the history is away."""
    wait = 0.5
    while True:
        try:
            await asyncio.to_thread(store.migrate)
            return
        except SQLAlchemyError as error:
            log.warning("history.away", reason=said(error))
        await asyncio.sleep(wait)
        wait = min(LONGEST_WAIT, wait * 2)


def main() -> None:
    """The process."""
    settings, own = load_settings(MeshSettings), load_settings(ArchiverSettings)
    serve_all_shards(ROLE, settings)
    logs.configure(settings, ROLE)
    if settings.history_url is None:
        sys.stderr.write("MESH_HISTORY_URL: the archiver needs one, such as sqlite:///var/history.db\n")
        raise SystemExit(2)
    start_inspecting(settings)
    run_until_stopped(lambda stop: archive(settings, own, stop))


if __name__ == "__main__":
    main()
