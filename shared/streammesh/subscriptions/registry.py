"""Stores and watches manifests: what each service wants, durable while its workers are away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import redis
import redis.asyncio
import structlog

from streammesh import lua
from streammesh.errors import InvalidManifest
from streammesh.keys import Keys
from streammesh.subscriptions.manifest import Manifest, check

log = structlog.get_logger(__name__)


def register_call(keys: Keys, manifest: Manifest, *, forgotten: bool = False) -> lua.Call[bool]:
    """`register_manifest.lua`; answers whether it differs from what was stored. Raises InvalidManifest.

    `forgotten`: it was registered before, and Redis has lost it. Then it is given everything that is there.
    """
    check(manifest)
    return lua.Call(
        lua.script("register_manifest"),
        [
            *(keys.manifests(), keys.domains(), keys.manifests_version(), keys.joined()),
            *(keys.events(domain) for domain in sorted(manifest.domains - {"*"})),
        ],
        [
            *(manifest.service, manifest.to_json(), keys.manifests_changed()),
            *(int("*" in manifest.domains), keys.events(""), "0" if forgotten else "$"),
        ],
        bool,
    )


@dataclass(frozen=True, slots=True)
class Registered:
    """All manifests at one moment, which `version` names.

    `joined`: (domain, service) -> the position of the last event that is older than the service's group.
    """

    manifests: list[Manifest]
    domains: frozenset[str] = frozenset()
    version: str = ""
    joined: Mapping[tuple[str, str], str] = field(default_factory=dict)


async def read_manifests(client: redis.asyncio.Redis, keys: Keys) -> list[Manifest]:
    """Every service's manifest, by name. A broken one is logged and left out; it must not stop the others."""
    return _parsed(await client.hgetall(keys.manifests()))


async def read_registered(client: redis.asyncio.Redis, keys: Keys) -> Registered:
    """All of it as it was at one moment, in one round trip."""
    pipe = client.pipeline(transaction=True)
    pipe.hgetall(keys.manifests()).smembers(keys.domains())
    pipe.get(keys.manifests_version()).hgetall(keys.joined())
    stored, domains, version, joined = await pipe.execute()
    places = {}
    for place, position in joined.items():
        domain, _, service = place.decode().partition(" ")
        places[domain, service] = position.decode()
    return Registered(
        _parsed(stored), frozenset(domain.decode() for domain in domains), (version or b"").decode(), places
    )


def _parsed(stored: Mapping[bytes, bytes]) -> list[Manifest]:
    found = []
    for service, raw in sorted(stored.items()):
        try:
            found.append(Manifest.from_json(raw))
        except InvalidManifest as error:
            log.error("manifest.broken", service=service.decode("utf-8", "replace"), reason=str(error))
    return found


async def read_domains(client: redis.asyncio.Redis, keys: Keys) -> frozenset[str]:
    """Every domain that has a stream."""
    return frozenset(domain.decode() for domain in await client.smembers(keys.domains()))


def lanes(manifests: Sequence[Manifest], domains: frozenset[str]) -> dict[str, frozenset[str]]:
    """Which domains each service's lane reads: those it names, and all that exist if it has an open glob. Pure."""
    return {
        m.service: (m.domains - {"*"}) | (domains if "*" in m.domains else frozenset())
        for m in manifests
        if m.subscriptions
    }
