"""`streammesh up`: the whole mesh on this machine, in one terminal."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from redis.exceptions import RedisError

from streammesh.cli.supervisor import Program, Supervisor
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.redisio.heartbeat import alive
from streammesh.running import run_until_stopped
from streammesh.settings import MeshSettings

GRACE_AFTER_DRAIN = 10.0  # seconds a service has beyond its drain before it is killed
READY_SECONDS = 60.0
API_PORT, REDIS_PORT, SMTP_PORT = 8000, 6390, 1025  # taken when they are free, any free one otherwise


@dataclass(frozen=True, slots=True)
class Place:
    """Where a running mesh is; written as JSON to `up.json` in its folder once it is ready."""

    api_url: str
    redis_url: str
    smtp_url: str
    mail_folder: str
    store_folder: str
    key_file: str
    pid: int


def find_services(root: Path) -> list[str]:
    """Every folder in `services/` that can be run; a new team's folder is found by its place alone."""
    return sorted(p.parent.name for p in (root / "services").glob("*/__main__.py"))


def find_workers(root: Path) -> list[str]:
    """Those of them that subscribe to events: they have handlers, and show life once they are registered."""
    return sorted(p.parent.name for p in (root / "services").glob("*/handlers.py"))


def choose_port(wanted: int) -> int:
    """`wanted` if it is free on 127.0.0.1, any free port otherwise."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return wanted


@contextmanager
def _redis(settings: MeshSettings, folder: Path, given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with EmbeddedServer(folder / "redis", port=choose_port(REDIS_PORT)) as server:
        yield server.url


def up(root: Path, folder: Path, redis_url: str | None, quiet: bool = False) -> None:
    """Run every service until Ctrl-C or SIGTERM; then drain and stop everything."""
    settings = MeshSettings()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "up.json").unlink(missing_ok=True)
    with _redis(settings, folder, redis_url) as url:
        api_port, smtp_port = choose_port(API_PORT), choose_port(SMTP_PORT)
        place = Place(
            api_url=f"http://127.0.0.1:{api_port}",
            redis_url=url,
            smtp_url=f"smtp://127.0.0.1:{smtp_port}",
            mail_folder=str(folder / "mail"),
            store_folder=str(folder / "store"),
            key_file=str(folder / "dev-key"),
            pid=os.getpid(),
        )
        run_until_stopped(lambda stop: _supervise(root, folder, place, settings, stop, quiet))


async def _supervise(
    root: Path, folder: Path, place: Place, settings: MeshSettings, stop: asyncio.Event, quiet: bool
) -> None:
    supervisor = Supervisor(_programs(root, place))
    ready = asyncio.create_task(_announce(supervisor, folder, place, settings, find_workers(root), quiet))
    grace = settings.drain.total_seconds() + GRACE_AFTER_DRAIN
    await supervisor.run(stop, grace=grace)
    ready.cancel()
    (folder / "up.json").unlink(missing_ok=True)
    supervisor.say("mesh", "everything has stopped")


def _programs(root: Path, place: Place) -> list[Program]:
    env = {
        "MESH_REDIS_URL": place.redis_url,
        "MESH_HEALTH_HOST": "127.0.0.1",
        "MESH_HEALTH_PORT": "0",  # several processes here: each takes a free one
        "API_HOST": "127.0.0.1",
        "API_PORT": place.api_url.rpartition(":")[2],
        "API_DEV_KEY_FILE": place.key_file,
        "EMAIL_SMTP_URL": place.smtp_url,
        "EMAIL_PUBLIC_URL": place.api_url,
        "REPORT_STORE_URL": place.store_folder,
        "PYTHONPATH": str(root),
        "PYTHONUNBUFFERED": "1",
        "FORCE_COLOR": "1" if sys.stdout.isatty() else "",
    }
    mail = [sys.executable, "-m", "streammesh.cli.mail_catcher", "--port", place.smtp_url.rpartition(":")[2]]
    return [
        Program("mail", [*mail, "--folder", place.mail_folder], env),
        *(Program(name, [sys.executable, "-m", f"services.{name}"], env) for name in find_services(root)),
    ]


async def _is_ready(place: Place, settings: MeshSettings, workers: list[str]) -> None:
    """Wait until the API answers, and every worker has registered what it wants: an event published before a
    service's very first registration is not for that service.
    """
    client = open_async(settings.model_copy(update={"redis_url": place.redis_url}), "up")
    keys = Keys(settings.namespace)
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{place.api_url}/readyz") as answer:
                        if answer.status == 200 and all(
                            [await alive(client, keys, name) for name in ("dispatcher", *workers)]
                        ):
                            return
                except (aiohttp.ClientError, RedisError):
                    pass
                await asyncio.sleep(0.1)
    finally:
        await client.aclose()


async def _announce(
    supervisor: Supervisor,
    folder: Path,
    place: Place,
    settings: MeshSettings,
    workers: list[str],
    quiet: bool,
) -> None:
    """Wait until the mesh is ready, then say where everything is."""
    began = time.monotonic()
    try:
        await asyncio.wait_for(_is_ready(place, settings, workers), READY_SECONDS)
    except TimeoutError:
        supervisor.say("mesh", f"not ready after {READY_SECONDS:.0f} s; see the lines above", "red")
        return
    ready = folder / "up.json"
    ready.with_suffix(".tmp").write_bytes(
        orjson.dumps({name: getattr(place, name) for name in Place.__dataclass_fields__})
    )
    ready.with_suffix(".tmp").rename(ready)
    if quiet:
        return
    for line in (
        f"ready after {time.monotonic() - began:.1f} s",
        f"API        {place.api_url}   (try {place.api_url}/docs)",
        f"key        {place.key_file} holds the development key",
        f"mails      {place.mail_folder}",
        f"reports    {place.store_folder}",
        f"Redis      {place.redis_url}",
        "Ctrl-C drains and stops everything",
    ):
        supervisor.say("mesh", line, "bright_white")
