"""Wires and runs the dispatcher: `python -m services.dispatcher`."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from streammesh import logs
from streammesh.brokers.forwarder import Forwarder
from streammesh.cancellation.canceller import Canceller
from streammesh.clock import SystemClock
from streammesh.group_link import tell_health
from streammesh.health import Echo, Health, Pulse
from streammesh.keys import Keys
from streammesh.process_group import serve_all_shards
from streammesh.redisio.channel_watch import watch
from streammesh.redisio.client import open_async
from streammesh.redisio.heartbeat import OVERDUE_SECONDS, process_name, show_life
from streammesh.redisio.inspector import start_inspecting
from streammesh.redisio.mesh_format import meet
from streammesh.roles import end, keep_on, run_until_stopped
from streammesh.settings import MeshSettings, load_settings
from streammesh.tasks.due_set import DueSet
from streammesh.tasks.pause import HeldTasks
from streammesh.telemetry import spans
from streammesh.worker.app import make_app
from streammesh.worker.message_encoder import Encoder

from services.dispatcher.backfiller import Backfiller
from services.dispatcher.broker_forwarders import Forwarders
from services.dispatcher.canceller import EventCanceller
from services.dispatcher.delayed import Promoter
from services.dispatcher.folder import Folder
from services.dispatcher.key_guard import KeyGuard
from services.dispatcher.lanes import Lanes
from services.dispatcher.line_keeper import LineKeeper
from services.dispatcher.outbox_relay import OutboxRelay
from services.dispatcher.reconciler import Janitor
from services.dispatcher.resumer import Releaser
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.trimmer import Trimmer

log = structlog.get_logger(__name__)
LOOK_EVERY = timedelta(seconds=5)


async def dispatch(settings: MeshSettings, own: DispatcherSettings, stop: asyncio.Event) -> None:
    """Run every role of a dispatcher until `stop` is set."""
    keys, clock = Keys(settings.namespace), SystemClock()
    health, redis_answers = Health(), Pulse()
    echo, stuck = Echo(asyncio.get_running_loop()), settings.stuck_after.total_seconds()
    health.lives_while("loop", lambda: echo.silent_for(stuck))
    health.works_while("redis", lambda: redis_answers.waits(OVERDUE_SECONDS))
    tell_health(health, settings)
    client = open_async(settings, "dispatcher")
    ears = open_async(settings, "dispatcher-ears", blocking=True)
    await meet(client, keys, health, stop)
    app = make_app("dispatcher", settings)
    encoder = Encoder(app, settings)
    lanes = Lanes(client, keys, settings, own, encoder.encode, clock)
    promoter = Promoter(DueSet(client, keys))
    releaser = Releaser(HeldTasks(client, keys, settings), client, keys)
    canceller = EventCanceller(Canceller(keys, settings), client, keys)
    janitor = Janitor(client, keys, settings, own, encoder.encode, clock)
    backfiller = Backfiller(client, keys, settings, own, encoder.encode, process_name("dispatcher"))
    forwarders = Forwarders(client, keys, lambda service: Forwarder(settings, app, service))
    keeper, folder = LineKeeper(client, keys), Folder(client, keys, settings)
    relay = OutboxRelay(client, keys, settings)
    look = asyncio.Event()

    def changed(what: str) -> None:
        if what == "fold":
            folder.changed.set()
            return
        if what in ("outbox", "look"):
            relay.changed()
        if what == "outbox":
            return
        if what != "cancels":
            (promoter.changed if what == "due" else look).set()
        if what == "backfills":
            backfiller.changed.set()
        if what == "resumed":
            releaser.changed.set()
        if what in ("resumed", "manifests", "flow"):
            keeper.changed.set()
        if what in ("cancels", "look"):
            canceller.changed.set()
        if what == "look":
            folder.changed.set()
        if what not in ("due", "cancels"):
            forwarders.changed.set()

    def leave(domain: str) -> None:
        lanes.leave(domain)
        look.set()

    async def follow_changes() -> None:
        while True:
            await look.wait()
            look.clear()
            try:
                await lanes.refresh()
            except Exception:
                look.set()  # what changed is still to be looked at
                raise

    roles = [
        keep_on(
            "watcher",
            lambda: watch(ears, keys.manifests_changed(), changed, LOOK_EVERY, settings.redis_timeout),
        ),
        keep_on("lanes", follow_changes),
        keep_on("key guard", KeyGuard(client, keys).run),
        keep_on("promoter", promoter.run),
        keep_on("releaser", releaser.run),
        keep_on("line keeper", keeper.run),
        keep_on("folder", folder.run),
        keep_on("canceller", canceller.run),
        keep_on("outbox relay", relay.run),
        keep_on("janitor", janitor.run),
        keep_on("backfiller", backfiller.run),
        keep_on("trimmer", Trimmer(client, keys, settings, own, clock, leave).run),
        keep_on("heartbeat", lambda: show_life(client, keys, "dispatcher", redis_answers)),
    ]
    if settings.broker_url:
        roles.append(keep_on("forwarders", forwarders.run))
    tasks = [asyncio.create_task(role) for role in roles]
    health.lives_while("roles", lambda: ended(tasks))
    health.works_while("lanes", lanes.why_not_ready)
    health.lives_while("forwarders", forwarders.dead)
    log.info("dispatcher.ready")
    await stop.wait()
    health.lives_while("roles", lambda: None)
    health.works_while("lanes", lambda: "it is stopping")
    await end(tasks)
    await lanes.stop()
    await forwarders.stop()
    backfiller.close()
    await client.aclose()
    await ears.aclose()
    log.info("dispatcher.stopped")


def ended(roles: list[asyncio.Task[None]]) -> str | None:
    """Return what to say when a role that should go on for ever has ended."""
    return "a role has ended by itself" if any(role.done() for role in roles) else None


def main() -> None:
    """The process."""
    settings, own = load_settings(MeshSettings), load_settings(DispatcherSettings)
    serve_all_shards("dispatcher", settings)
    logs.configure(settings, "dispatcher")
    spans.begin(settings.traces_url, settings.traces_share, "dispatcher")
    start_inspecting(settings)
    run_until_stopped(lambda stop: dispatch(settings, own, stop))


if __name__ == "__main__":
    main()
