"""API keys: made once, stored as hashes, revocable."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.errors import ApiKeyExists, ApiKeyRevoked, InvalidApiKey


@pytest.fixture
def api_keys(mesh_redis, mesh_keys):
    return ApiKeys(mesh_redis, mesh_keys)


async def test_a_key_is_verified_and_nothing_of_it_is_stored(api_keys, mesh_redis, mesh_keys):
    secret = await api_keys.create("shop", publish=["order.*"], subscribe=["order.*", "invoice.sent"])

    key = await api_keys.verify(secret)
    stored = await mesh_redis.hgetall(mesh_keys.api_keys())

    assert key and (key.name, key.admin, key.rate) == ("shop", False, None)
    assert key.may_publish("order.placed") and not key.may_publish("invoice.sent")
    assert key.may_subscribe("invoice.sent") and not key.may_subscribe("user.registered")
    assert secret.encode() not in b"".join([*stored.keys(), *stored.values()])
    assert await api_keys.verify(secret + "x") is None
    assert key.digest not in repr(key)


async def test_a_revoked_key_is_not_known_any_more(api_keys):
    secret = await api_keys.create("shop", admin=True)

    assert await api_keys.revoke("shop")
    assert await api_keys.verify(secret) is None
    assert not await api_keys.revoke("shop")


async def test_a_name_is_given_once_and_replacing_it_ends_the_old_key(api_keys):
    old = await api_keys.create("shop")

    with pytest.raises(ApiKeyExists):
        await api_keys.create("shop")
    new = await api_keys.create("shop", how="replace")

    assert await api_keys.verify(old) is None
    assert (await api_keys.verify(new)).name == "shop"
    assert [key.name for key in await api_keys.list()] == ["shop"]


async def test_of_many_who_make_the_first_key_at_once_one_does(api_keys):
    tries = [api_keys.create(f"dev{i}", admin=True, how="first") for i in range(10)]

    made = [r for r in await asyncio.gather(*tries, return_exceptions=True) if isinstance(r, str)]

    assert len(made) == 1
    assert await api_keys.count() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "Shop"},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "a", "publish": ["a\nb"]},
        {"name": "a", "sources": ["a b"]},
        {"name": "scheduler"},
        {"name": "a", "subscribe": [""]},
        {"name": "a", "rate": 0},
        {"name": "a", "secret": "short"},
        {"name": "a", "secret": "x" * 30 + "\r\n"},
        {"name": "a", "secret": "é" * 30},
    ],
)
async def test_what_cannot_be_a_key_is_refused_and_not_stored(api_keys, wrong):
    with pytest.raises(InvalidApiKey):
        await api_keys.create(**wrong)
    assert await api_keys.count() == 0


async def test_the_name_of_a_service_is_no_name_for_a_key_unless_it_is_said(api_keys, mesh_redis, mesh_keys):
    await mesh_redis.hset(mesh_keys.manifests(), "billing", b"{}")

    with pytest.raises(InvalidApiKey, match="--source billing"):
        await api_keys.create("billing", publish=["*"])
    secret = await api_keys.create("billing", publish=["*"], sources=["billing"])

    assert (await api_keys.verify(secret)).claims("billing")


async def test_a_rotated_key_works_beside_the_new_one_for_a_while(api_keys, mesh_redis, mesh_keys):
    old = await api_keys.create("shop", publish=["order.*"], sources=["/shops/*"], rate=5)

    new = await api_keys.rotate("shop", timedelta(hours=1))
    newest = await api_keys.rotate("shop", timedelta(0))

    assert await api_keys.verify(old) is None  # the second rotation was at once, for all
    assert await api_keys.verify(new) is None
    key = await api_keys.verify(newest)
    assert (key.name, key.publish, key.sources, key.rate, key.expires_ms) == (
        *("shop", ("order.*",), ("/shops/*",), 5),
        None,
    )
    with pytest.raises(InvalidApiKey):
        await api_keys.rotate("nobody", timedelta(0))


async def test_during_the_overlap_both_keys_are_valid_and_the_old_one_has_an_end(api_keys):
    old = await api_keys.create("shop")

    new = await api_keys.rotate("shop", timedelta(hours=1))

    assert (await api_keys.verify(old)).expires_ms is not None
    assert (await api_keys.verify(new)).expires_ms is None
    assert await api_keys.revoke("shop")  # both
    assert await api_keys.count() == 0


async def test_an_expired_key_is_worth_nothing_and_its_name_is_free(api_keys):
    secret = await api_keys.create("shop", expires=timedelta(milliseconds=1))
    await asyncio.sleep(0.01)

    assert await api_keys.verify(secret) is None
    assert await api_keys.create("shop")
    assert await api_keys.count() == 1


@pytest.mark.parametrize("how", ["new", "replace", "first"])
async def test_a_key_that_was_revoked_is_never_stored_again(api_keys, how):
    secret = await api_keys.create("admin", admin=True)
    await api_keys.revoke("admin")

    with pytest.raises(ApiKeyRevoked):
        await api_keys.create("admin", admin=True, secret=secret, how=how)
    assert await api_keys.count() == 0


async def test_a_broken_record_opens_nothing_and_is_seen_in_the_list(api_keys, mesh_redis, mesh_keys):
    secret = await api_keys.create("shop", admin=True)
    digest = (await api_keys.list())[0].digest
    await mesh_redis.hset(mesh_keys.api_keys(), digest, b"{")

    with pytest.raises(InvalidApiKey):
        await api_keys.verify(secret)
    assert (await api_keys.list())[0].name == "(broken record)"


def test_admin_covers_everything_and_an_empty_key_nothing():
    assert ApiKey("a", admin=True).may_publish("x.y") and ApiKey("a", admin=True).may_subscribe_to_all
    assert not ApiKey("a").may_publish("x.y") and not ApiKey("a").may_subscribe("x.y")
    assert ApiKey("a", subscribe=("*",)).may_subscribe_to_all


@pytest.mark.parametrize("expires", [timedelta(), timedelta(seconds=-1), timedelta.max])
async def test_a_key_that_would_be_worth_nothing_or_never_end_is_not_made(api_keys, expires):
    with pytest.raises(InvalidApiKey, match="expires"):
        await api_keys.create("shop", expires=expires)
    assert await api_keys.count() == 0
