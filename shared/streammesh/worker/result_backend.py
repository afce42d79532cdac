"""Celery's result backend, which outlasts lost connections: what the parts of a workflow leave there counts once.

Celery's own gives up at the first lost connection, and with it fails the chord. Here every command is repeated:
in a worker for as long as Redis is away, elsewhere for about a minute. All that Celery sends may be repeated but
the script that counts a chord's part and claims the right to go on with its body; see `PartReturn`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from streammesh.redis_url import parse_redis_url
from streammesh.redisio.client import tls_options
from streammesh.redisio.connection import connection_kind
from streammesh.settings import mesh_settings
from streammesh.worker.internals import CeleryRedisBackend

PARAMETERS = (
    "socket_timeout",
    "socket_connect_timeout",
    "socket_keepalive",
    "health_check_interval",
    "client_name",
)
FOR_EVER = -1
A_MINUTE = 60  # tries of at most a second each
LOOK_SECONDS = 0.2  # between looks at a claim that somebody else holds


class PartReturn:
    """Celery's script that counts a part of a chord and, for the last one, claims to send the chord's body.

    Two ways to lose a chord are closed. When the reply to the call that got the claim is lost, the repeated
    call does not get it again; but the claim holds this call's own token. And when the worker that got the
    claim was killed, its part is delivered again while the claim still stands: whoever runs it then waits
    until the claim is settled or has run out.
    """

    def __init__(self, script: Any) -> None:
        self._script = script

    def __call__(self, *, keys: Sequence[str], args: Sequence[Any], client: Any) -> list[Any]:
        """[parts counted, difference to the size, size (None once the body was sent), 1 if it is ours to send]"""
        claim, token = keys[5], str(args[7]).encode()
        while True:
            counted, difference, size, claimed = answer = self._script(keys=keys, args=args, client=client)
            if claimed or not size or counted != int(size) + int(difference or 0):
                return list(answer)
            holder = client.get(claim)
            if holder == token:
                return [counted, difference, size, 1]
            time.sleep(LOOK_SECONDS)


class MeshBackend(CeleryRedisBackend):
    """Results in the mesh's Redis, wherever that is at the moment; see `redisio/connection.py`."""

    connparams: dict[str, Any]
    app: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._settings = getattr(self.app, "mesh_settings", mesh_settings)()
        tries = FOR_EVER if getattr(self.app, "is_worker", False) else A_MINUTE
        given = {name: self.connparams[name] for name in PARAMETERS if self.connparams.get(name) is not None}
        more = {**given, **tls_options(self._settings), "insists": True}
        url = parse_redis_url(self._settings.redis_url)
        kind, params = connection_kind(url, self._settings.namespace, more)
        retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), tries)
        self.connparams = {"connection_class": kind, "retry": retry, **params}

    def as_uri(self, include_password: bool = False) -> str:
        """For people; never with the password."""
        return parse_redis_url(self._settings.redis_url).shown()

    def claim_seconds(self, initial: int) -> int:
        """How long the claim of a killed worker holds up a chord: seconds, as at first, where Celery makes it a minute.

        Should sending the body take longer, because Redis is away, it may be sent twice; whatever runs twice ends once.
        """
        return initial

    def part_return(self, usual: Any) -> PartReturn:
        """Celery's script, which loses no chord."""
        return PartReturn(usual)
