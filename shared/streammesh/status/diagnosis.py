"""Looks at a mesh from beside it, over Redis alone: also where no API, dispatcher or worker is up.

What `GET /v1/status` says, and what only somebody beside the mesh can see: that Redis cannot be reached and why,
clocks that differ, certificates near their end, shards that do not fit the settings, garbage that was set aside, keys
of API users that end.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta

import redis.asyncio

from streammesh.api_keys import ApiKeys
from streammesh.key_types import set_aside
from streammesh.keys import Keys
from streammesh.redis_url import RedisUrl, parse_redis_url
from streammesh.redisio.client import is_unavailable
from streammesh.redisio.inspection import Severity
from streammesh.redisio.inspector import ask_server
from streammesh.redisio.shard_marks import ShardMarks
from streammesh.settings import MeshSettings
from streammesh.status.findings import Finding, findings
from streammesh.status.lasting_keys import STRANGE, LastingKeys, read_lasting_keys
from streammesh.status.snapshot import read_snapshot

SKEW_SECONDS = 1.0
MANY = 20  # keys in a sample of thousands; a few that somebody left there harm nobody
ENDS_SOON = timedelta(days=14)
CONNECT_SECONDS = 3.0


async def diagnose(
    client: redis.asyncio.Redis,
    settings: MeshSettings,
    *,
    now: Callable[[], float] = time.time,
) -> list[Finding]:
    """Return all that is wrong, errors first; empty when all is well. Raises nothing for a Redis that is away."""
    keys, found = Keys(settings.namespace), []
    found += _tls(parse_redis_url(settings.redis_url), settings, now())
    try:
        found += await asyncio.to_thread(_marks, settings)
        found += [one async for one in _clock(client, now)]
        snapshot = await read_snapshot(client, keys, settings)
        found += findings(snapshot, settings)
        if not snapshot.apis:
            text = "no API process is alive: nobody can publish over HTTP, and nobody is told"
            found.append(Finding("no-api", "api", Severity.ERROR, text, "start one: python -m services.api"))
        if not snapshot.services:
            text = "no service has ever joined: events would be stored, and nothing would run"
            do = "start a worker, and look at MESH_NAMESPACE: is it the mesh's?"
            found.append(Finding("no-service", "mesh", Severity.WARNING, text, do))
        services = [state.service for state in snapshot.services]
        found += [one async for one in _set_aside(client, keys, services)]
        found += [one async for one in _keys(client, keys, now)]
        found += _lasting(await read_lasting_keys(client, keys))
    except Exception as error:
        if not is_unavailable(error):
            raise
        do = "is it up, and MESH_REDIS_URL right (host, port, password, TLS)?"
        text = f"Redis cannot be reached: {type(error).__name__}: {error}"[:300]
        found.append(Finding("redis-away", "redis", Severity.ERROR, text, do))
    return sorted(found, key=lambda one: one.severity is not Severity.ERROR)


def _marks(settings: MeshSettings) -> list[Finding]:
    """What a process of this shard would refuse to start with; nothing is marked. Raises redis-py's errors."""
    said = ShardMarks(settings, ask_server).findings(mark=False)
    return [Finding(one.code, "shards", Severity.ERROR, one.text, one.do) for one in said]


async def _clock(client: redis.asyncio.Redis, now: Callable[[], float]) -> AsyncIterator[Finding]:
    before = now()
    seconds, micros = await client.time()
    skew = (before + now()) / 2 - (seconds + micros / 1e6)
    if abs(skew) > SKEW_SECONDS + (now() - before):
        ahead = "ahead of" if skew > 0 else "behind"
        text = f"this machine's clock is {abs(skew):.1f} s {ahead} Redis's: times in events and logs differ by that"
        yield Finding(
            "clock-skew", "clock", Severity.WARNING, text, "run chrony or systemd-timesyncd on both"
        )


async def _set_aside(
    client: redis.asyncio.Redis, keys: Keys, services: Sequence[str]
) -> AsyncIterator[Finding]:
    looked_at = [*keys.of_the_mesh(), *(name for service in services for name in keys.of_a_service(service))]
    pipeline = client.pipeline(transaction=False)
    for name in looked_at:
        pipeline.exists(set_aside(name))
    answers = await pipeline.execute()
    names = [set_aside(name) for name, there in zip(looked_at, answers, strict=True) if there]
    if names:
        shown = ", ".join(name[:100] for name in names[:3])
        text = f"{len(names)} keys of the mesh had another type than they should and were set aside: {shown}"
        do = "find out what else writes below this namespace; look at them, then delete them"
        yield Finding("keys-set-aside", "redis", Severity.WARNING, text, do)


async def _keys(client: redis.asyncio.Redis, keys: Keys, now: Callable[[], float]) -> AsyncIterator[Finding]:
    stored = await ApiKeys(client, keys).list()
    if not stored:
        text = "there is no API key: every request is refused"
        yield Finding("no-keys", "keys", Severity.WARNING, text, "streammesh keys create NAME --admin")
    soon = (now() + ENDS_SOON.total_seconds()) * 1000
    for key in stored:
        if key.expires_ms is None or key.expires_ms > soon:
            continue
        left = key.expires_ms / 1000 - now()
        how = "has expired" if left <= 0 else f"expires in {_days(left)}"
        yield Finding(
            "key-ends",
            key.name,
            Severity.WARNING,
            f"the API key {key.name!r} {how}",
            f"streammesh keys rotate {key.name}",
        )


def _lasting(seen: LastingKeys) -> list[Finding]:
    found = []
    for kind, count in sorted(seen.kinds.items()):
        if count < MANY:
            continue
        of = f"`{kind}`" if kind != STRANGE else kind
        text = (
            f"{count:,} of {seen.looked_at:,} keys looked at are {of}, and have no expiry: they stay for ever"
            f" (as {seen.samples[kind]}; the database has {seen.all:,} keys)"
        )
        do = "find out what writes them below this namespace; look at some, then give them an expiry or delete them"
        found.append(Finding("keys-never-expire", "redis", Severity.WARNING, text, do))
    return found


def _tls(url: RedisUrl, settings: MeshSettings, now: float) -> list[Finding]:
    """Of each host that speaks TLS, when its certificate ends. One that cannot be asked is said by who reads Redis."""
    if not url.tls:
        return []
    found = []
    for host, port in url.hosts:
        try:
            ends = _end_of_certificate(host, port, settings)
        except ssl.SSLCertVerificationError as error:
            text = f"the certificate of {host}:{port} is not accepted: {error.verify_message}"
            do = "set MESH_REDIS_TLS_CA to the CA that signed it"
            found.append(Finding("tls-refused", "redis", Severity.ERROR, text, do))
            continue
        except OSError:
            continue
        if ends - now < ENDS_SOON.total_seconds():
            text = f"the certificate of {host}:{port} ends in {_days(ends - now)}"
            found.append(
                Finding("tls-ends", "redis", Severity.WARNING, text, "renew it; clients need no restart")
            )
    return found


def _end_of_certificate(host: str, port: int, settings: MeshSettings) -> float:
    context = ssl.create_default_context(cafile=settings.redis_tls_ca and str(settings.redis_tls_ca))
    if settings.redis_tls_cert:
        context.load_cert_chain(settings.redis_tls_cert, settings.redis_tls_key)
    with (
        socket.create_connection((host, port), CONNECT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        certificate = connection.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days" if seconds > 86_400 else f"{max(0.0, seconds) / 3_600:.0f} hours"
