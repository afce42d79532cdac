"""Keys and scopes: who may do what, how soon a revoked key is refused, what is never asked twice."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from streammesh.api_keys import ApiKey, ApiKeys
from streammesh.errors import MeshUnavailable

from services.api.auth import Authenticator
from services.api.cursors import Cursors
from services.api.limits import RateLimit
from services.api.problems import Problem
from services.api.read_limit import ReadLimit
from services.api.settings import ApiSettings
from services.api.source_rules import SourceRules
from services.api.tests.expectations import assert_problem
from services.api.tokens import Tokens

EVENT = {"type": "order.placed"}


def tokens(client, keys):
    return Tokens(Cursors(client, keys), ApiKeys(client, keys))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Basic YTpi",
        "smk_x",
        "Bearer " + "x" * 5_000,
        "Bearer a b",
    ],
)
@pytest.mark.parametrize("path", ["/v1/events", "/v1/notifications", "/v1/tasks/x", "/v1/reports/x.pdf"])
async def test_without_a_valid_key_there_is_nothing(api, header, path):
    headers = {"authorization": header}

    answer = await api.get(path, headers=headers)
    posted = await api.post("/v1/events", json=EVENT, headers=headers)

    for one in (answer, posted):
        assert_problem(one, 401, "unauthenticated")
        assert one.headers["www-authenticate"].startswith("Bearer")


async def test_no_header_at_all_is_challenged(api):
    del api.headers["authorization"]

    answer = await api.post("/v1/events", json=EVENT)

    assert_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_health_documents_and_problems_need_no_key(api):
    del api.headers["authorization"]

    answers = [await api.get(path) for path in ("/healthz", "/openapi.json", "/docs", "/problems/forbidden")]

    assert [answer.status_code for answer in answers] == [200] * 4


async def test_a_key_publishes_what_its_globs_cover(api, make_key):
    headers = {"authorization": f"Bearer {await make_key('narrow', publish=['order.*'])}"}

    allowed = await api.post("/v1/events", json=EVENT, headers=headers)
    refused = await api.post("/v1/events", json={"type": "user.registered"}, headers=headers)
    welcome = await api.post("/v1/users/1/welcome-email", json={"email": "a@example.com"}, headers=headers)
    report = await api.post("/v1/reports", json={"csv": "a\n1\n", "group_by": "a"}, headers=headers)

    assert (allowed.status_code, allowed.json()["source"]) == (202, "narrow")
    for answer in (refused, welcome, report):
        assert_problem(answer, 403, "forbidden")


async def test_one_type_out_of_scope_refuses_the_whole_batch(api, make_key, mesh_redis, mesh_keys):
    headers = {
        "authorization": f"Bearer {await make_key('narrow', publish=['order.*'])}",
        "content-type": "application/cloudevents-batch+json",
    }
    batch = [
        {"specversion": "1.0", "id": t, "source": "s", "type": t} for t in ("order.placed", "user.registered")
    ]

    assert_problem(await api.post("/v1/events", json=batch, headers=headers), 403, "forbidden")
    assert not await mesh_redis.exists(mesh_keys.events("order"))


@pytest.mark.parametrize("source", ["narrow", "/shops/7", "orders"])
async def test_a_key_publishes_under_its_name_and_the_sources_it_was_given(api, make_key, source):
    secret = await make_key("narrow", publish=["*"], sources=["/shops/*", "orders"])

    answer = await api.post(
        "/v1/events", json={**EVENT, "source": source}, headers={"authorization": f"Bearer {secret}"}
    )

    assert (answer.status_code, answer.json()["source"]) == (202, source)


async def test_another_source_is_refused_in_words_and_nothing_is_stored(api, make_key, mesh_redis, mesh_keys):
    headers = {"authorization": f"Bearer {await make_key('narrow', publish=['*'], sources=['/a/*'])}"}

    answer = await api.post("/v1/events", json={**EVENT, "source": "shop"}, headers=headers)

    document = assert_problem(answer, 403, "forbidden")
    assert "'shop'" in document["detail"] and "'/a/*'" in document["detail"]
    assert not await mesh_redis.exists(mesh_keys.events("order"))


@pytest.mark.parametrize("source", ["scheduler", "billing"])
@pytest.mark.parametrize("key", [{"admin": True}, {"publish": ["*"], "sources": ["*"]}])
async def test_nobody_publishes_in_the_name_of_a_service(api, mesh, make_key, source, key):
    await mesh.subscribe("billing", "order.*")
    headers = {"authorization": f"Bearer {await make_key('narrow', **key)}"}

    answer = await api.post("/v1/events", json={**EVENT, "source": source}, headers=headers)

    assert source in assert_problem(answer, 403, "forbidden")["detail"]


async def test_a_key_that_was_given_the_name_of_a_service_publishes_as_it(api, mesh, make_key):
    await mesh.subscribe("billing", "order.*")
    headers = {"authorization": f"Bearer {await make_key('legacy', publish=['*'], sources=['billing'])}"}

    answer = await api.post("/v1/events", json={**EVENT, "source": "billing"}, headers=headers)

    assert answer.status_code == 202


async def test_a_service_that_joins_owns_its_name_from_then_on(door, mesh, mesh_redis, mesh_keys):
    now = 0.0
    rules = SourceRules(mesh_redis, mesh_keys, ReadLimit(3), lambda: now)
    key = ApiKey("billing", publish=("*",))
    await rules.check(key, ["billing"])
    await mesh.subscribe("billing", "order.*")

    now = 3.0
    await rules.check(key, ["billing"])  # looks again beside this one
    while rules._refreshing:
        await asyncio.sleep(0.001)

    with pytest.raises(Problem):
        await rules.check(key, ["billing"])


async def test_too_much_at_once_uploads_nothing(api, make_key, store_settings):
    headers = {"authorization": f"Bearer {await make_key('slow', publish=['*'], rate=1)}"}
    batch = [{"specversion": "1.0", "id": str(n), "source": "slow", "type": "a.b"} for n in range(1_000)]
    as_batch = {**headers, "content-type": "application/cloudevents-batch+json"}
    assert (await api.post("/v1/events", json=batch, headers=as_batch)).status_code == 202

    answer = await api.post(
        "/v1/reports",
        data={"title": "t", "group_by": "a"},
        files={"file": ("a.csv", b"a\n1\n", "text/csv")},
        headers=headers,
    )

    assert_problem(answer, 429, "too-many-requests")
    assert not [path for path in Path(store_settings.store_url).rglob("*") if path.is_file()]


class TestRemembering:
    """Keys in memory: quick to revoke, and no question per request."""

    @pytest.fixture
    def clock(self):
        class Clock:
            now = 0.0

            def __call__(self):
                return self.now

        return Clock()

    @pytest.fixture
    def auth(self, mesh_redis, mesh_keys, clock):
        settings = ApiSettings(
            _env_file=None, key_refresh=timedelta(seconds=2), key_lifetime=timedelta(seconds=5)
        )
        return Authenticator(
            ApiKeys(mesh_redis, mesh_keys), tokens(mesh_redis, mesh_keys), settings, ReadLimit(3), clock
        )

    async def test_a_key_in_use_is_looked_up_beside_the_requests(
        self, auth, clock, admin, mesh_redis, mesh_keys
    ):
        header = f"Bearer {admin}".encode()
        await auth.authenticate(header)
        await ApiKeys(mesh_redis, mesh_keys).revoke("shop")

        clock.now = 1.9
        assert auth.at_once(header).name == "shop"
        clock.now = 2.1
        assert auth.at_once(header).name == "shop"  # believed once more, and looked up meanwhile
        async with asyncio.timeout(5):
            while auth.at_once(header):
                await asyncio.sleep(0.01)
        with pytest.raises(Problem):
            await auth.authenticate(header)

    async def test_a_key_that_was_not_used_for_a_while_is_looked_up_first(
        self, auth, clock, admin, mesh_redis, mesh_keys
    ):
        header = f"Bearer {admin}".encode()
        await auth.authenticate(header)
        await ApiKeys(mesh_redis, mesh_keys).revoke("shop")

        clock.now = 5.1
        assert auth.at_once(header) is None
        with pytest.raises(Problem):
            await auth.authenticate(header)

    @pytest.mark.parametrize("is_sharded", [True, False])
    async def test_while_the_shard_with_the_keys_is_away_a_known_key_is_believed(
        self, clock, admin, mesh_redis, mesh_keys, monkeypatch, is_sharded
    ):
        auth = Authenticator(
            ApiKeys(mesh_redis, mesh_keys),
            tokens(mesh_redis, mesh_keys),
            ApiSettings(_env_file=None),
            ReadLimit(3),
            clock,
            believes_while_away=is_sharded,
        )
        header = f"Bearer {admin}".encode()
        await auth.authenticate(header)

        async def away(*_):
            raise MeshUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(ApiKeys, "verify", away)
            clock.now = 600.0
            if is_sharded:
                assert (await auth.authenticate(header)).name == "shop"
                clock.now = 601.0
                assert auth.at_once(header).name == "shop", "and nobody waits for it again"
                await asyncio.gather(*auth._tasks)
            else:
                with pytest.raises(MeshUnavailable):
                    await auth.authenticate(header)
            with pytest.raises(MeshUnavailable):
                await auth.authenticate(b"Bearer smk_guess")
            clock.now = 3_601.0
            with pytest.raises(MeshUnavailable):
                await auth.authenticate(header)
        await ApiKeys(mesh_redis, mesh_keys).revoke("shop")
        with pytest.raises(Problem):
            await auth.authenticate(header)

    async def test_secrets_are_not_kept_in_memory(self, auth, admin):
        await auth.authenticate(f"Bearer {admin}".encode())
        with pytest.raises(Problem):
            await auth.authenticate(b"Bearer smk_guess")

        assert len(auth._known) == 1
        assert admin not in repr(auth._known)

    async def test_however_its_header_is_spelled_a_key_is_kept_once_and_not_too_many_are(
        self, auth, admin, make_key, monkeypatch
    ):
        monkeypatch.setattr("services.api.auth.MOST_KNOWN", 3)
        for spelled in ("Bearer ", "bearer ", "BEARER   ", "beArer "):
            await auth.authenticate(f"{spelled}{admin} ".encode())
        assert len(auth._known) == 1

        for n in range(5):
            await auth.authenticate(f"Bearer {await make_key(f'key-{n}')}".encode())
        assert len(auth._known) == 3

    async def test_an_expired_key_is_refused_from_memory_too(self, auth, make_key):
        header = f"Bearer {await make_key('short', expires=timedelta(milliseconds=80))}".encode()
        await auth.authenticate(header)

        await asyncio.sleep(0.1)

        assert auth.at_once(header) is None

    async def test_when_a_key_was_last_used_is_remembered_about(self, auth, admin, mesh_redis, mesh_keys):
        for _ in range(5):
            await auth.authenticate(f"Bearer {admin}".encode())
        await asyncio.gather(*auth._tasks)

        (used,) = (await ApiKeys(mesh_redis, mesh_keys).last_uses()).values()
        assert abs(used - time.time() * 1000) < 5_000

    async def test_a_crowd_with_one_new_key_does_not_run_out_of_connections(self, auth, admin):
        found = await asyncio.gather(*(auth.authenticate(f"Bearer {admin}".encode()) for _ in range(500)))

        assert {key.name for key in found} == {"shop"}


async def test_a_new_key_works_at_once(api, make_key):
    headers = {"authorization": f"Bearer {await make_key('new', publish=['*'])}"}

    assert (await api.post("/v1/events", json=EVENT, headers=headers)).status_code == 202


async def test_a_key_may_publish_at_its_rate_and_is_told_when_to_come_back(api, make_key):
    headers = {"authorization": f"Bearer {await make_key('slow', publish=['*'], rate=1)}"}
    batch = [{"specversion": "1.0", "id": str(n), "source": "slow", "type": "a.b"} for n in range(1_000)]
    as_batch = {**headers, "content-type": "application/cloudevents-batch+json"}

    whole = await api.post("/v1/events", json=batch, headers=as_batch)
    answer = await api.post("/v1/events", json=EVENT, headers=headers)

    assert whole.status_code == 202
    assert_problem(answer, 429, "too-many-requests")
    assert answer.headers["retry-after"] == "1"


def test_a_bucket_fills_at_its_rate():
    class Key:
        name, rate = "a", 2_000

    key: Any = Key
    now = 0.0
    limit = RateLimit(0, lambda: now)
    limit.spend(key, 2_000)
    with pytest.raises(Problem) as refused:
        limit.spend(key, 1_000)
    assert refused.value.headers["retry-after"] == "1"
    now = 0.5
    limit.spend(key, 1_000)
    with pytest.raises(Problem):
        limit.spend(key, 1)


async def test_the_operators_own_key_works_again_after_redis_lost_its_data(mesh_redis, mesh_keys):
    settings = ApiSettings(_env_file=None, port=0, admin_key="the-operators-own-key-1234")
    api_keys = ApiKeys(mesh_redis, mesh_keys)
    auth = Authenticator(api_keys, tokens(mesh_redis, mesh_keys), settings, ReadLimit(3))
    other = await api_keys.create("shop", admin=True)

    with pytest.raises(Problem):  # it may have been revoked: there are others
        await auth.authenticate(b"Bearer the-operators-own-key-1234")
    await mesh_redis.delete(mesh_keys.api_keys())
    for header in (f"Bearer {other}".encode(), b"Bearer the-operators-own-key-1235"):
        with pytest.raises(Problem):
            await auth.authenticate(header)
    key = await auth.authenticate(b"Bearer the-operators-own-key-1234")

    assert key.admin
    assert await api_keys.count() == 1
    await auth.aclose()
