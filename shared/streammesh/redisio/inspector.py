"""Looks at the mesh's Redis as a process starts, and each minute after: refuses to start, or reports in the log."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import redis
import redis.asyncio
import structlog
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from streammesh.redis_url import parse_redis_url
from streammesh.redisio import internals
from streammesh.redisio.client import tls_options
from streammesh.redisio.connection import connection_kind
from streammesh.redisio.inspection import ServerFinding, Severity, inspect
from streammesh.redisio.refusals import Refusal, is_denied, refusal_of
from streammesh.redisio.shard_marks import ShardMarks
from streammesh.settings import MeshSettings

EVERY_SECONDS = 60.0
AWAY_SECONDS = 5.0  # between looks at a Redis that could not be looked at yet
ASK_SECONDS = 2.0
CONFIG = ("save", "appendfsync")
# By process, since what is forked has no thread of its parent's, and by namespace, of which each shard has one.
_looking: set[tuple[int, str]] = set()
log = structlog.get_logger(__name__)


class Inspector:
    """One process's looks at its Redis."""

    def __init__(self, settings: MeshSettings) -> None:
        self._settings = settings
        self._said: dict[str, ServerFinding] = {}
        self._looked = False

    def look(self) -> list[ServerFinding]:
        """What is wrong now. Raises redis-py's errors when Redis cannot be asked."""
        with ask_server(self._settings, decode_responses=True) as client:
            found = inspect_server(client.info(), _config(client), self._settings)
        return [*ShardMarks(self._settings, ask_server).findings(), *found]

    def report(self, found: list[ServerFinding]) -> None:
        """Say in the log what is new, and what is over."""
        now = {one.code: one for one in found}
        for code, one in now.items():
            if code not in self._said:
                say = {Severity.NOTE: log.info, Severity.WARNING: log.warning}.get(one.severity, log.error)
                say("redis.unfit", code=code, finding=one.text, do=one.do)
        for code in self._said.keys() - now.keys():
            log.info("redis.fit_again", code=code)
        self._said = now

    def refusals(self, found: list[ServerFinding]) -> list[ServerFinding]:
        """What this process does not start with."""
        return [
            one
            for one in found
            if one.severity is Severity.REFUSED
            and not (one.setting == "MESH_ALLOW_EVICTION" and self._settings.allow_eviction)
        ]

    def start(self) -> None:
        """Look; then go on looking in a thread. Raises SystemExit(2), after one line, for what is refused.

        A Redis that is away is waited for by whoever needs it; it is looked at as soon as it is there.
        """
        try:
            found = self.look()
        except (RedisError, OSError) as error:
            if is_denied(error) and not _is_info(error):
                _refuse(f"MESH_REDIS_URL: Redis refuses the user name or the password: {error}")
            log.warning("redis.not_inspected", reason=str(error))
        else:
            self._looked = True
            for one in self.refusals(found):
                _refuse(_line(one))
            self.report(found)
        threading.Thread(target=self._go_on, name="redis-inspector", daemon=True).start()

    def _go_on(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(EVERY_SECONDS if self._looked else AWAY_SECONDS)
            try:
                self._once_more()
            except (RedisError, OSError) as error:
                log.debug("redis.not_inspected", reason=str(error))
            except Exception:
                log.exception("redis.inspector_broke")

    def _once_more(self) -> None:
        found = self.look()
        first, self._looked = not self._looked, True
        self.report(found)
        refused = self.refusals(found)
        if first and refused:  # it was away as this process started, which would have ended there
            log.critical("redis.refused", reason=_line(refused[0]))
            os.kill(os.getpid(), signal.SIGTERM)


def ask_server(settings: MeshSettings, **more: Any) -> redis.Redis:
    """Return a client for a few questions: nothing is asked twice, and an answer may take two seconds."""
    options: dict[str, Any] = {
        "client_name": "streammesh-inspector",
        "socket_timeout": ASK_SECONDS,
        "socket_connect_timeout": ASK_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        **more,
        **tls_options(settings),
    }
    kind, params = connection_kind(parse_redis_url(settings.redis_url), settings.namespace, options)
    return redis.Redis.from_pool(redis.ConnectionPool(connection_class=kind, **params))


def inspect_server(info: Any, config: dict[str, str] | None, settings: MeshSettings) -> list[ServerFinding]:
    """What is wrong with a server for a mesh with these settings; see `inspect`."""
    follows = parse_redis_url(settings.redis_url).moves
    return inspect(info, config, mark=settings.memory_mark, follows=follows)


def start_inspecting(settings: MeshSettings) -> None:
    """Look at redis-py and at Redis now, and at Redis each minute. Raises SystemExit(2), after one line, for what is
    not fit.

    A process that is several things at once looks once.
    """
    internals.start_with(internals.check)
    if (os.getpid(), settings.namespace) not in _looking:
        Inspector(settings).start()
        _looking.add((os.getpid(), settings.namespace))


async def read_config(client: redis.asyncio.Redis) -> dict[str, str] | None:
    """What `inspect` wants to know of CONFIG GET; None where it may not be asked, as on many managed servers."""
    try:
        found = await client.config_get(*CONFIG)
    except ResponseError:
        return None
    return {_text(name): _text(value) for name, value in found.items()}


def _config(client: redis.Redis) -> dict[str, str] | None:
    try:
        found: Any = client.config_get(*CONFIG)
    except ResponseError as error:
        if refusal_of(error) not in (Refusal.FAULT, Refusal.DENIED):
            raise
        return None
    return {_text(name): _text(value) for name, value in found.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _is_info(error: BaseException) -> bool:
    """Whether it is only INFO that this user may not ask."""
    return "'info'" in str(error)


def _line(one: ServerFinding) -> str:
    over = f", or {one.setting}=true to go on" if one.setting else ""
    return f"{one.text}: {one.do}{over}"


def _refuse(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    raise SystemExit(2)
