"""`streammesh up`: the whole mesh on this machine, in one terminal."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import orjson
import typer
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.exceptions import RedisError

from streammesh.cli.api_call import REFUSED, fail
from streammesh.cli.found_programs import FoundProgram, NothingToRun, find_programs
from streammesh.cli.supervisor import Program, Supervisor
from streammesh.embedded import EmbeddedServer, free_port
from streammesh.keys import Keys
from streammesh.local_mesh import running_here
from streammesh.redis_url import parse_redis_url
from streammesh.redisio.client import open_async
from streammesh.redisio.heartbeat import alive
from streammesh.roles import run_until_stopped
from streammesh.settings import MeshSettings, load_settings

GRACE_AFTER_DRAIN = 10.0  # seconds a service has beyond its drain before it is killed
READY_SECONDS = 60.0
REDIS_PORT, SMTP_PORT = 6390, 1025  # taken when they are free, any free one otherwise


class UpSettings(BaseSettings):
    """What `streammesh up` itself is told. `API_PORT` is the API's own setting."""

    model_config = SettingsConfigDict(
        env_prefix="API_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    port: int = Field(8000, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")


@dataclass(frozen=True, slots=True)
class RunningMesh:
    """Where a running mesh is; written as JSON to `up.json` in its folder once it is ready."""

    api_url: str
    redis_url: str
    smtp_url: str
    mail_folder: str
    store_folder: str
    key_file: str
    pid: int
    environment: dict[str, str]  # the settings with which a service joins


# What runs in the terminal of a mesh beside its programs: given what ends when the mesh is ready, where it is, `say`.
Beside = Callable[
    [asyncio.Task[None], RunningMesh, Callable[[str, str, str], None]], Coroutine[Any, Any, None]
]


def choose_port(wanted: int) -> int:
    """`wanted` if it is free on 127.0.0.1, any free port otherwise."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return wanted


def module_path(first: Path) -> str:
    """PYTHONPATH with a folder before what is in ours."""
    return os.pathsep.join(filter(None, (str(first), os.environ.get("PYTHONPATH"))))


@contextmanager
def _redis(settings: MeshSettings, folder: Path, given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with EmbeddedServer(folder / "redis", port=choose_port(REDIS_PORT)) as server:
        yield server.url


def up(
    root: Path,
    folder: Path,
    redis_url: str | None,
    quiet: bool = False,
    port: int | None = None,
    apart: Sequence[str] = (),
    beside: Beside | None = None,
) -> None:
    """Run every service but those `apart` until Ctrl-C or SIGTERM, and `beside` with them; then drain and stop all."""
    try:
        programs = [one for one in find_programs(root) if one.name not in apart]
    except NothingToRun as error:
        fail(error, REFUSED)
    settings, own = load_settings(MeshSettings, join=False), load_settings(UpSettings, join=False)
    if redis_url:
        try:
            parse_redis_url(redis_url)
        except ValueError as error:
            fail(f"--redis-url: {error}", REFUSED)
    found = folder / "up.json"
    if here := running_here(found):
        fail(
            f"a mesh runs in {folder} already, as process {here['pid']}; stop it, or give another --folder",
            REFUSED,
        )
    if port is None and "port" in own.model_fields_set:
        port = own.port or free_port()
    if port and choose_port(port) != port:
        fail(f"port {port} of 127.0.0.1 is taken; choose another with --port or API_PORT", REFUSED)
    folder.mkdir(parents=True, exist_ok=True)
    found.unlink(missing_ok=True)
    with _redis(settings, folder, redis_url) as url:
        place = _place(folder, url, port or choose_port(own.port), choose_port(SMTP_PORT))
        if settings.history_url is None and any(one.name == "archiver" for one in programs):
            place.environment["MESH_HISTORY_URL"] = f"sqlite:///{folder / 'history.db'}"
        run_until_stopped(lambda stop: _supervise(programs, folder, place, settings, stop, quiet, beside))


def _place(folder: Path, redis_url: str, api_port: int, smtp_port: int) -> RunningMesh:
    api_url, smtp_url = f"http://127.0.0.1:{api_port}", f"smtp://127.0.0.1:{smtp_port}"
    store, key = str(folder / "store"), str(folder / "dev-key")
    return RunningMesh(
        api_url=api_url,
        redis_url=redis_url,
        smtp_url=smtp_url,
        mail_folder=str(folder / "mail"),
        store_folder=store,
        key_file=key,
        pid=os.getpid(),
        environment={
            "MESH_REDIS_URL": redis_url,
            "MESH_HEALTH_HOST": "127.0.0.1",
            "MESH_HEALTH_PORT": "0",  # several processes here: each takes a free one
            "API_DEV_KEY_FILE": key,
            "EMAIL_SMTP_URL": smtp_url,
            "EMAIL_PUBLIC_URL": api_url,
            "REPORT_STORE_URL": store,
            "MESH_STORE_URL": store,
        },
    )


def command(
    folder: Annotated[Path, typer.Option(help="Where data, mails and reports are kept.")] = Path("var/up"),
    redis_url: Annotated[
        str | None, typer.Option(help="A Redis that runs already; else one is brought.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the API; else API_PORT, else 8000 or a free one."),
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Do not print where everything is.")] = False,
) -> None:
    """Run the whole mesh here, with this folder's workers: Redis, a mail catcher, every service. Ctrl-C drains."""
    up(Path.cwd(), folder.resolve(), redis_url, quiet, port)


async def _supervise(
    found: Sequence[FoundProgram],
    folder: Path,
    place: RunningMesh,
    settings: MeshSettings,
    stop: asyncio.Event,
    quiet: bool,
    beside: Beside | None,
) -> None:
    supervisor = Supervisor(_programs(found, place))
    workers = [one.service for one in found if one.service]
    ready = asyncio.create_task(_announce(supervisor, folder, place, settings, workers, quiet))
    other = asyncio.create_task(beside(ready, place, supervisor.say)) if beside else None
    grace = settings.drain.total_seconds() + GRACE_AFTER_DRAIN
    await supervisor.run(stop, grace=grace)
    ready.cancel()
    if other:
        other.cancel()
        await asyncio.wait((other,), timeout=grace)
    (folder / "up.json").unlink(missing_ok=True)
    supervisor.say("mesh", "everything has stopped")


def _programs(found: Sequence[FoundProgram], place: RunningMesh) -> list[Program]:
    env = {
        **place.environment,
        "API_HOST": "127.0.0.1",
        "API_PORT": place.api_url.rpartition(":")[2],
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",  # we read it as such, whatever the terminal's own is
        "FORCE_COLOR": "1" if sys.stdout.isatty() else "",
    }
    mail = [sys.executable, "-m", "streammesh.cli.mail_catcher", "--port", place.smtp_url.rpartition(":")[2]]
    return [
        Program("mail", [*mail, "--folder", place.mail_folder], env),
        *(Program(one.name, one.command, {**env, "PYTHONPATH": module_path(one.path)}) for one in found),
    ]


async def _is_ready(
    place: RunningMesh, settings: MeshSettings, workers: list[str], broken: Mapping[str, str]
) -> list[str]:
    """Wait until the API answers, and every worker has registered what it wants: an event published before a
    service's very first registration is not for that service. Return those that cannot start, and are not waited for.
    """
    client = open_async(settings.model_copy(update={"redis_url": place.redis_url}), "up")
    keys = Keys(settings.namespace)
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{place.api_url}/readyz") as answer:
                        names = ("dispatcher", *workers)
                        away = [name for name in names if not await alive(client, keys, name)]
                        if answer.status == 200 and all(name in broken for name in away):
                            return away
                except (aiohttp.ClientError, RedisError):
                    pass
                await asyncio.sleep(0.1)
    finally:
        await client.aclose()


async def _announce(
    supervisor: Supervisor,
    folder: Path,
    place: RunningMesh,
    settings: MeshSettings,
    workers: list[str],
    quiet: bool,
) -> None:
    """Wait until the mesh is ready, then say where everything is."""
    began = time.monotonic()
    try:
        broken = supervisor.broken
        away = await asyncio.wait_for(_is_ready(place, settings, workers, broken), READY_SECONDS)
    except TimeoutError:
        supervisor.say("mesh", f"not ready after {READY_SECONDS:.0f} s; see the lines above", "red")
        return
    ready = folder / "up.json"
    ready.with_suffix(".tmp").write_bytes(
        orjson.dumps({name: getattr(place, name) for name in RunningMesh.__dataclass_fields__})
    )
    ready.with_suffix(".tmp").rename(ready)
    for name in away:
        supervisor.say("mesh", f"ready without {name}: {broken.get(name, 'it is away')}", "red")
    if quiet:
        return
    for line in (
        f"ready after {time.monotonic() - began:.1f} s",
        f"API        {place.api_url}   (try {place.api_url}/docs)",
        f"dashboard  {place.api_url}/ui",
        f"key        {place.key_file} holds the development key",
        f"mails      {place.mail_folder}",
        f"reports    {place.store_folder}",
        f"Redis      {parse_redis_url(place.redis_url).shown()}",
        "Ctrl-C drains and stops everything",
    ):
        supervisor.say("mesh", line, "bright_white")
