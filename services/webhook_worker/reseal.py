"""Seals all secrets anew with the first of WEBHOOK_SECRET_KEYS: `python -m services.webhook_worker.reseal`.

For those that were kept as they are until a key came, and before an older key is taken away. It may run at any time and
be repeated; what is changed meanwhile by somebody else is looked at again.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace

import redis.asyncio
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.settings import MeshSettings, load_settings
from streammesh.shards import each_shard
from streammesh.webhooks.definition import Secret
from streammesh.webhooks.seal import Seal
from streammesh.webhooks.store import WebhookStore
from streammesh.webhooks.url_workers import read_url_workers, store_url_worker

from services.webhook_worker.settings import WebhookSettings

ROUNDS = 5


@dataclass(slots=True)
class Resealed:
    """How many secrets were sealed anew, and how many do not open with the keys that there are."""

    renewed: int = 0
    unopened: int = 0


async def reseal(client: redis.asyncio.Redis, keys: Keys, seal: Seal) -> Resealed:
    """Seal all secrets of one mesh anew."""
    done = Resealed()
    for _ in range(ROUNDS):
        moved = False
        done.unopened = 0
        store = WebhookStore(client, keys)
        for one in (await store.all())[1]:
            fresh = _renewed(seal, one.webhook.secrets, one.webhook.id, done)
            if fresh is not None:
                moved |= await store.put(replace(one.webhook, secrets=fresh), one.raw) != "stored"
        for service, (worker, raw) in (await read_url_workers(client, keys)).items():
            fresh = _renewed(seal, worker.secrets, service, done)
            if fresh is not None:
                stored = await store_url_worker(client, keys, service, replace(worker, secrets=fresh), raw)
                moved |= stored != "stored"
        if not moved:
            break
    return done


def _renewed(
    seal: Seal, secrets: tuple[Secret, ...], owner: str, done: Resealed
) -> tuple[Secret, ...] | None:
    """Return the secrets where any changed; None else."""
    fresh = seal.renewed(secrets, owner)
    done.renewed += sum(old is not new for old, new in zip(secrets, fresh, strict=True))
    done.unopened += sum(seal.open(one.text, owner) is None for one in fresh)
    return None if all(old is new for old, new in zip(secrets, fresh, strict=True)) else fresh


async def _main() -> str | None:
    mesh, seal = load_settings(MeshSettings, whole=True), load_settings(WebhookSettings).seal
    if not seal.seals:
        return "There is no key to seal with: set WEBHOOK_SECRET_KEYS."
    done = Resealed()
    for shard in each_shard(mesh):
        client = open_async(shard, "reseal")
        try:
            found = await reseal(client, Keys(shard.namespace), seal)
        finally:
            await client.aclose()
        done = Resealed(done.renewed + found.renewed, done.unopened + found.unopened)
    print(f"{done.renewed} secrets were sealed with the first key.")  # noqa: T201
    if done.unopened:
        return f"{done.unopened} do not open: their key is not in WEBHOOK_SECRET_KEYS, or they are damaged."
    return None


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
