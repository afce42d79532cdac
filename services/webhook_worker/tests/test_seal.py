"""Secrets at rest: sealed in Redis where there is a key, opened by any key that there is, never sent unsigned."""

from __future__ import annotations

import base64
import os

import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook as Verifier
from streammesh.webhooks.definition import Secret
from streammesh.webhooks.seal import Seal, parse_keys
from streammesh.webhooks.signature import key_of, new_secret
from streammesh.webhooks.url_workers import (
    UrlSubscription,
    UrlWorker,
    read_url_worker,
    store_url_worker,
)

from services.webhook_worker.reseal import reseal
from services.webhook_worker.settings import WebhookSettings
from services.webhook_worker.tests.conftest import until

OLD, NEW = os.urandom(32), os.urandom(32)


def test_a_sealed_secret_opens_with_its_key_and_for_its_owner_alone():
    secret = new_secret()
    kept = Seal([OLD]).close(secret, "wh1")

    assert secret not in kept and key_of(secret) not in base64.b64decode(kept.rpartition(".")[2])
    assert Seal([NEW, OLD]).open(kept, "wh1") == secret
    assert Seal([OLD]).open(kept, "wh2") is None
    assert Seal([NEW]).open(kept, "wh1") is None and Seal().open(kept, "wh1") is None
    assert Seal([OLD]).close(secret, "wh1") != kept
    assert Seal().close(secret, "wh1") == secret == Seal([OLD]).open(secret, "wh1")


@pytest.mark.parametrize(
    "change", [lambda k: k[:-4] + "AAA=", lambda k: k[:30], lambda k: k + "é", lambda k: "sealed."]
)
def test_what_was_tampered_with_does_not_open_and_is_stepped_over(change):
    seal = Seal([OLD])
    secret = new_secret()
    kept = seal.close(secret, "wh1")

    assert seal.open(change(kept), "wh1") is None
    assert seal.keys([Secret(change(kept)), Secret(kept)], "wh1", 0) == [key_of(secret)]


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "é" * 44])
def test_a_key_that_is_none_is_refused_at_the_door_and_not_repeated(text):
    with pytest.raises(ValueError, match="key 2 should be 32 bytes in base64") as refused:
        parse_keys([base64.b64encode(OLD).decode(), text])
    assert len(text) < 5 or text not in str(refused.value)
    with pytest.raises(ValidationError, match="openssl rand"):
        WebhookSettings(_env_file=None, secret_keys=[text])


async def test_a_sealed_webhook_is_signed_and_without_its_key_waits_and_says_why(
    crew, add, tell, receiver, store
):
    secret = new_secret()
    kept = Seal([OLD]).close(secret, "wh1")
    await add(secrets=(Secret(kept),))
    keys = [base64.b64encode(key).decode() for key in (NEW, OLD)]
    await tell()
    async with crew(secret_keys=keys[:1], retry_first="50ms"):

        async def said():
            return (await store.attempts("wh1", None, 5)).attempts

        await until(said)
        assert "WEBHOOK_SECRET_KEYS" in (await said())[0]["error"] and not receiver.requests

    async with crew(secret_keys=keys):
        await until(lambda: receiver.requests)
    _, headers, body = receiver.requests[0]
    Verifier(secret).verify(body, headers)


async def test_all_is_sealed_anew_with_the_first_key_and_what_does_not_open_is_counted(
    add, store, mesh_redis, mesh_keys
):
    plain, sealed, lost = new_secret(), new_secret(), Seal([os.urandom(32)]).close(new_secret(), "wh3")
    await add("wh1", secrets=(Secret(plain), Secret(plain, 5)))
    await add("wh2", secrets=(Secret(Seal([OLD]).close(sealed, "wh2")),))
    await add("wh3", secrets=(Secret(lost),))
    worker = UrlWorker("bills", "https://x.example/", (UrlSubscription("a.b", "handle"),), (Secret(plain),))
    assert await store_url_worker(mesh_redis, mesh_keys, "bills", worker, b"") == "stored"

    done = await reseal(mesh_redis, mesh_keys, Seal([NEW, OLD]))

    assert (done.renewed, done.unopened) == (4, 1)
    only = Seal([NEW])
    assert [
        only.keys((await store.one(name)).webhook.secrets, name, 9) for name in ("wh1", "wh2", "wh3")
    ] == [*([key_of(plain)], [key_of(sealed)], [])]
    found, _ = await read_url_worker(mesh_redis, mesh_keys, "bills")
    assert found and only.keys(found.secrets, "bills", 9) == [key_of(plain)]
    kept = await mesh_redis.hvals(mesh_keys.webhooks()) + await mesh_redis.hvals(mesh_keys.url_workers())
    assert plain.encode() not in b"".join(kept)
    assert (await reseal(mesh_redis, mesh_keys, Seal([NEW]))).renewed == 0
