"""Wires and runs the webhook worker: `python -m services.webhook_worker`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from streammesh import logs
from streammesh.api_keys import ApiKeys
from streammesh.group_link import tell_health
from streammesh.health import Echo, Health, Pulse
from streammesh.keys import Keys
from streammesh.process_group import serve_all_shards
from streammesh.redisio.channel_watch import watch
from streammesh.redisio.client import open_async
from streammesh.redisio.heartbeat import OVERDUE_SECONDS, show_life
from streammesh.redisio.inspector import start_inspecting
from streammesh.redisio.mesh_format import meet
from streammesh.roles import end, keep_on, run_until_stopped
from streammesh.settings import MeshSettings, load_settings

from services.webhook_worker.crew import Crew
from services.webhook_worker.owners import Owners
from services.webhook_worker.settings import WebhookSettings
from services.webhook_worker.url_services import UrlServices

ROLE = "webhook_worker"
LOOK_EVERY = timedelta(seconds=5)  # at what is due, told or not
STOPPING = timedelta(seconds=3)  # that a process may take beyond its drain
NAMES_AT_ONCE = 64  # threads that resolve names: one that hangs holds up few others
log = structlog.get_logger(__name__)


async def deliver(settings: MeshSettings, own: WebhookSettings, stop: asyncio.Event) -> None:
    """Run every role until `stop` is set."""
    loop, keys = asyncio.get_running_loop(), Keys(settings.namespace)
    loop.set_default_executor(ThreadPoolExecutor(NAMES_AT_ONCE, "names"))
    health, redis_answers = Health(), Pulse()
    echo, stuck = Echo(loop), settings.stuck_after.total_seconds()
    health.lives_while("loop", lambda: echo.silent_for(stuck))
    health.works_while("redis", lambda: redis_answers.waits(OVERDUE_SECONDS))
    tell_health(health, settings)
    client, routing = open_async(settings, ROLE), open_async(settings, f"{ROLE}-router")
    await meet(client, keys, health, stop)
    ears, bell = (
        open_async(settings, f"{ROLE}-ears", blocking=True),
        open_async(settings, f"{ROLE}-bell", blocking=True),
    )
    first = settings.whole.of_shard(0)  # where the mesh has its API keys
    registry = open_async(first, f"{ROLE}-keys")
    owners = Owners(ApiKeys(registry, Keys(first.namespace)))
    crew = Crew(client, ears, keys, own, api_keys=owners, routing=routing)
    drain = (settings.drain + STOPPING).total_seconds()
    url_services = UrlServices(client, keys, owners, drain, own.seal)

    def changed(what: str) -> None:
        crew.changed(what)
        if what in ("workers", "look"):
            url_services.changed.set()

    roles = [
        keep_on(
            "watcher",
            lambda: watch(bell, keys.webhooks_changed(), changed, LOOK_EVERY, settings.redis_timeout),
        ),
        *crew.roles(),
        keep_on("url services", url_services.run),
        keep_on("heartbeat", lambda: show_life(client, keys, ROLE, redis_answers)),
    ]
    tasks = [asyncio.create_task(role) for role in roles]
    health.lives_while("roles", _ended(tasks))
    log.info("webhooks.ready")
    await stop.wait()
    health.lives_while("roles", lambda: None)
    health.works_while("redis", lambda: "it is stopping")
    await end(tasks)
    await asyncio.gather(crew.stop(min(own.timeout, settings.drain).total_seconds()), url_services.stop())
    for opened in (client, routing, ears, bell, registry):
        await opened.aclose()
    log.info("webhooks.stopped")


def _ended(roles: list[asyncio.Task[None]]) -> Callable[[], str | None]:
    return lambda: "a role has ended by itself" if any(role.done() for role in roles) else None


def main() -> None:
    """The process."""
    settings, own = load_settings(MeshSettings), load_settings(WebhookSettings)
    serve_all_shards(ROLE, settings)
    logs.configure(settings, ROLE)
    start_inspecting(settings)
    run_until_stopped(lambda stop: deliver(settings, own, stop))


if __name__ == "__main__":
    main()
