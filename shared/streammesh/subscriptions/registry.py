"""Stores and watches manifests: what each service wants, durable while its workers are away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import redis
import redis.asyncio
import structlog

from streammesh import lua, names
from streammesh.errors import InvalidManifest
from streammesh.keys import Keys
from streammesh.lua.services import RegisterManifestScript
from streammesh.redisio.turns import Turns
from streammesh.subscriptions.manifest import Manifest, check

log = structlog.get_logger(__name__)
POSITION = re.compile(rb"[0-9]{1,19}-[0-9]{1,19}")
VERSION = re.compile(rb"[0-9]{1,18}")
DOMAIN = re.compile(rb"[^\x00-\x20\x7f]{1,256}")


def register_call(
    keys: Keys, manifest: Manifest, *, forgotten: bool = False, before: bytes | None = None
) -> lua.Call[bool | None]:
    """`register_manifest.lua`; answers whether it differs from what was stored. Raises InvalidManifest.

    `forgotten`: it was registered before, and Redis has lost it. Then it is given everything that is there.
    `before`: what it was made of, empty for nothing; None is answered where that is not what is stored any more.
    """
    check(manifest)
    return RegisterManifestScript(
        manifests=keys.manifests(),
        sealed=keys.sealed_manifest(manifest.service),
        domains=keys.domains(),
        version=keys.manifests_version(),
        joined=keys.joined(),
        service=manifest.service,
        manifest=manifest.to_json(),
        changed=keys.manifests_changed(),
        is_open="*" in manifest.domains,
        prefix=keys.events(""),
        start="0" if forgotten else "$",
        before=before or b"",
        is_checked=before is not None,
        streams=[keys.events(domain) for domain in sorted(manifest.domains - {"*"})],
    ).call(lambda answer: None if answer < 0 else bool(answer))


@dataclass(frozen=True, slots=True)
class Registered:
    """All manifests at one moment, which `version` names.

    `joined`: (domain, service) -> the position of the last event that is older than the service's group.
    """

    manifests: list[Manifest]
    domains: frozenset[str] = frozenset()
    version: str = ""
    broken: frozenset[str] = frozenset()  # services whose manifests cannot be read
    joined: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KnownManifests:
    """Every service's manifest, by name; whose cannot be read; and whose somebody else wrote, which does not count."""

    manifests: list[Manifest]
    broken: frozenset[str]
    forged: frozenset[str]


async def read_known(client: redis.asyncio.Redis, keys: Keys) -> KnownManifests:
    """All of them. A broken one is logged and left out; it must not stop the others."""
    return await _known(client, keys, await client.hgetall(keys.manifests()))


async def read_manifests(client: redis.asyncio.Redis, keys: Keys) -> list[Manifest]:
    """Those that can be read."""
    return (await read_known(client, keys)).manifests


async def read_registered(client: redis.asyncio.Redis, keys: Keys) -> Registered:
    """All of it as it was at one moment, in one round trip."""
    pipe = client.pipeline(transaction=True)
    pipe.hgetall(keys.manifests()).smembers(keys.domains())
    pipe.get(keys.manifests_version()).hgetall(keys.joined())
    stored, domains, version, joined = await pipe.execute()
    if version is not None and not VERSION.fullmatch(
        version
    ):  # no script can count on from it; the next change makes it anew
        _say_broken("manifests_version", "", "it is no number")
        await client.delete(keys.manifests_version())
        version = None
    places = {}
    for place, position in joined.items():
        domain, _, service = place.decode("utf-8", "replace").partition(" ")
        if POSITION.fullmatch(position):
            places[domain, service] = position.decode()
        else:
            _say_broken("joined", f"{domain} {service}", "it is no position of a stream")
    known = await _known(client, keys, stored)
    return Registered(
        known.manifests, _named(domains), (version or b"").decode("latin-1"), known.broken, places
    )


async def _known(client: redis.asyncio.Redis, keys: Keys, stored: Mapping[bytes, bytes]) -> KnownManifests:
    """What is stored of each, by what the service itself wrote where there is that: anybody could write the rest.

    That is read after `stored`, so that it is as new: one script writes both.
    """
    named = {name: raw for raw in stored if names.SERVICE.match(name := raw.decode("utf-8", "replace"))}
    seals = await client.mget([keys.sealed_manifest(name) for name in named]) if named else []
    sealed = {name: seal for name, seal in zip(named, seals, strict=True) if seal is not None}
    forged = set()
    for name, seal in sealed.items():
        if seal != stored[named[name]] and await client.hget(keys.manifests(), name) not in (seal, None):
            forged.add(name)
            _say_forged(name, stored[named[name]])
    manifests = await _parsed({**stored, **{named[name]: seal for name, seal in sealed.items()}})
    broken = {raw.decode("utf-8", "replace") for raw in stored} - {one.service for one in manifests}
    return KnownManifests(manifests, frozenset(broken), frozenset(forged))


@lru_cache(maxsize=256)
def _say_forged(service: str, raw: bytes) -> None:
    """Say it once of each."""
    log.error("manifest.forged", service=service, size_bytes=len(raw))


async def _parsed(stored: Mapping[bytes, bytes]) -> list[Manifest]:
    found, turns = [], Turns()
    for name, raw in sorted(stored.items()):
        service = name.decode("utf-8", "replace")
        try:
            await turns.give()
            manifest = _read(raw)
        except InvalidManifest as error:
            _say_broken("manifest", service, str(error))
            continue
        if manifest.service == service:
            found.append(manifest)
        else:
            _say_broken("manifest", service, f"it is the manifest of {manifest.service}")
    return found


@lru_cache(maxsize=512)
def _read(raw: bytes) -> Manifest:
    """A stored manifest. They are read often and change seldom. Raises InvalidManifest."""
    return Manifest.from_json(raw)


def readable(raw: bytes | None) -> Manifest | None:
    """A stored manifest; None where there is none that can be read."""
    try:
        return None if raw is None else _read(raw)
    except InvalidManifest:
        return None


def _named(domains: Iterable[bytes]) -> frozenset[str]:
    """Domains as they are written; what cannot be one is left out, since there is no such stream."""
    return frozenset(domain.decode() for domain in domains if DOMAIN.fullmatch(domain) and _is_text(domain))


def _is_text(raw: bytes) -> bool:
    try:
        return bool(raw.decode())
    except UnicodeDecodeError:
        return False


@lru_cache(maxsize=256)
def _say_broken(what: str, name: str, reason: str) -> None:
    """Say it once, not at every look."""
    log.error(f"{what}.broken", service=name, reason=reason)


async def read_domains(client: redis.asyncio.Redis, keys: Keys) -> frozenset[str]:
    """Every domain that has a stream."""
    return _named(await client.smembers(keys.domains()))


def lanes(manifests: Sequence[Manifest], domains: frozenset[str]) -> dict[str, frozenset[str]]:
    """Which domains each service's lane reads: those it names, and all that exist if it has an open glob. Pure."""
    return {
        m.service: (m.domains - {"*"}) | (domains if "*" in m.domains else frozenset())
        for m in manifests
        if m.subscriptions
    }
