"""Services whose worker is only a URL: what they want, where it is sent, how their results come back.

The mesh claims their tasks as it does for any worker, POSTs the event, and settles by the answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import redis.asyncio
import structlog

from streammesh import lua, names
from streammesh.api_keys import ApiKey
from streammesh.errors import InvalidManifest, InvalidWebhook
from streammesh.keys import Keys
from streammesh.lua.webhooks import StoreUrlWorkerScript
from streammesh.subscriptions.filters import Where
from streammesh.subscriptions.manifest import Manifest, Subscription, check
from streammesh.webhooks.definition import Secret
from streammesh.webhooks.signature import check_kept

MOST = 50  # of a mesh: each is a process of every webhook worker
SIGNAL = "result"  # the signal that a later result is
BEYOND_ANSWER = 5.0  # seconds that an attempt may take beyond the answer's own time
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UrlSubscription:
    """One subscription of such a service; times in seconds."""

    type: str
    name: str
    where: Where = field(default_factory=dict)
    retries: int = 5
    expires: float | None = None
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class UrlWorker:
    """One such service. `timeout`: how long an answer may take; `result_within`: a result after a `202`, in seconds."""

    service: str
    url: str
    subscriptions: tuple[UrlSubscription, ...]
    secrets: tuple[Secret, ...] = ()
    timeout: float = 30.0
    result_within: float = 86_400.0
    concurrency: int = 16
    owner: str = ""  # the API key, by name, whose rights it has; empty where it was made before that was kept

    def may_be_told(self, key: ApiKey) -> bool:
        """Whether it may be this key's: by its name, and by all that it is sent."""
        if key.admin:
            return True
        every = "*" in key.subscribe
        return key.claims(self.service) and all(
            every
            or one.type in key.subscribe
            or (not names.is_glob(one.type) and key.may_subscribe(one.type))
            for one in self.subscriptions
        )

    def manifest(self) -> Manifest:
        """What the mesh is told of it. Raises InvalidManifest."""
        wants = tuple(
            Subscription(
                service=self.service,
                task=f"{self.service}.{one.name}",
                type=one.type,
                where=one.where,
                timeout=self.timeout + BEYOND_ANSWER,
                retries=one.retries,
                expires=one.expires,
                priority=one.priority,
            )
            for one in self.subscriptions
        )
        manifest = Manifest(self.service, subscriptions=wants)
        check(manifest)
        return manifest

    def to_json(self) -> bytes:
        """As it is stored."""
        value = asdict(self)
        if not self.owner:
            del value["owner"]
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def result_token(key: bytes, task_id: str) -> str:
    """What allows to say the result of one task, and nothing else."""
    digest = hmac.digest(key, f"result of {task_id}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_result_token(keys: Sequence[bytes], task_id: str, token: str) -> bool:
    """Whether it is the token of this task, by one of its service's keys."""
    return any(
        hmac.compare_digest(result_token(key, task_id).encode(), token.encode("utf-8", "replace"))
        for key in keys
    )


def from_json(raw: bytes) -> UrlWorker:
    """What is stored. Raises InvalidWebhook for what somebody else put there."""
    try:
        value: dict[str, Any] = orjson.loads(raw)
        wants = tuple(UrlSubscription(**one) for one in value.pop("subscriptions"))
        secrets = tuple(Secret(str(one["text"]), one.get("until_ms")) for one in value.pop("secrets"))
        worker = UrlWorker(**value, subscriptions=wants, secrets=secrets)
        worker.manifest()
        for secret in secrets:
            check_kept(secret.text)
        if (
            not isinstance(worker.url, str)
            or not isinstance(worker.owner, str)
            or not all(
                isinstance(n, int | float) and 0 < n < 1e9
                for n in (worker.timeout, worker.result_within, worker.concurrency)
            )
        ):
            raise TypeError("it has no URL, or a time that is none")
        return worker
    except (ValueError, KeyError, TypeError, AttributeError, InvalidManifest) as error:
        raise InvalidWebhook(f"what is stored is no service with a URL: {error!r}"[:300]) from None


async def read_url_workers(client: redis.asyncio.Redis, keys: Keys) -> dict[str, tuple[UrlWorker, bytes]]:
    """Every one that can be read, and exactly what is stored of it; others are stepped over, and said."""
    found = {}
    for name, raw in (await client.hgetall(keys.url_workers())).items():
        try:
            worker = from_json(raw)
            if worker.service.encode() != name:
                raise InvalidWebhook("it lies under another name than its own")
            found[worker.service] = worker, raw
        except InvalidWebhook as error:
            log.error("url_worker.unreadable", service=name.decode("utf-8", "replace"), reason=str(error))
    return found


async def read_url_worker(
    client: redis.asyncio.Redis, keys: Keys, service: str
) -> tuple[UrlWorker | None, bytes]:
    """One of them, and what is stored; None where there is none, or what is stored is none."""
    raw = await client.hget(keys.url_workers(), service)
    try:
        return (from_json(raw), raw) if raw else (None, b"")
    except InvalidWebhook:
        return None, raw or b""


async def store_url_worker(
    client: redis.asyncio.Redis, keys: Keys, service: str, worker: UrlWorker | None, expected: bytes
) -> str:
    """Store it with its manifest, or remove it (None), if it still is what was read: `stored`, `moved`, `taken` or `full`."""
    manifest = worker.manifest() if worker else Manifest(service)
    call = StoreUrlWorkerScript(
        workers=keys.url_workers(),
        manifests=keys.manifests(),
        sealed=keys.sealed_manifest(service),
        domains=keys.domains(),
        version=keys.manifests_version(),
        joined=keys.joined(),
        service=service,
        expected=expected,
        document=worker.to_json() if worker else b"",
        most=MOST,
        told=keys.webhooks_changed(),
        manifest=manifest.to_json(),
        changed=keys.manifests_changed(),
        is_open="*" in manifest.domains,
        prefix=keys.events(""),
        start="$",
        streams=[keys.events(domain) for domain in sorted(manifest.domains - {"*"})],
    ).call(lambda answer: str(answer.decode()))
    return await lua.run(client, call)
