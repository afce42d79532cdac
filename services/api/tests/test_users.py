"""`POST /v1/users/{user_id}/welcome-email`."""

from __future__ import annotations

import pytest
from streammesh.events import envelope

from services.api.tests.expectations import assert_problem


async def test_a_welcome_is_a_user_registered_event(api, mesh_redis, mesh_keys):
    sent = {"email": "ann+news@bücher.example", "name": "Ann", "locale": "de", "plan": "gold"}

    answer = await api.post("/v1/users/42/welcome-email", json=sent)

    ((_, fields),) = await mesh_redis.xrange(mesh_keys.events("user"))
    event = envelope.from_json(fields[b"e"])
    assert (answer.status_code, answer.json()["id"], answer.json()["type"]) == (
        202,
        event.id,
        "user.registered",
    )
    assert event.data == {**sent, "user_id": 42}
    assert (event.subject, event.source) == ("user/42", "shop")


@pytest.mark.parametrize(
    ("user_id", "expected"), [("7", 7), ("007", "007"), ("u-7", "u-7"), ("9" * 30, "9" * 30)]
)
async def test_a_number_stays_one_where_nothing_is_lost(api, mesh_redis, mesh_keys, user_id, expected):
    await api.post(f"/v1/users/{user_id}/welcome-email", json={"email": "a@example.com"})

    ((_, fields),) = await mesh_redis.xrange(mesh_keys.events("user"))
    assert envelope.from_json(fields[b"e"]).data["user_id"] == expected


async def test_an_idempotency_key_welcomes_once(api):
    def send():
        return api.post(
            "/v1/users/1/welcome-email", json={"email": "a@example.com"}, headers={"idempotency-key": "w-1"}
        )

    assert [(await send()).json()["duplicate"] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/email"),
        ({"email": "nobody"}, "/email"),
        ({"email": "a@example.com\r\nBcc: b@example.com"}, "/email"),
        ({"email": "a@example.com\nX: y"}, "/email"),
        ({"email": "a@example.com\x00"}, "/email"),
        ({"email": "a@example.com, b@example.com"}, "/email"),
        ({"email": "=?utf-8?q?a=0D=0ABcc:_b?=@exa mple.com"}, "/email"),
        ({"email": ["a@example.com"]}, "/email"),
        ({"email": "a" * 400 + "@example.com"}, "/email"),
        ({"email": "a@example.com", "name": "Ann\r\nBcc: b@example.com"}, "/name"),
        ({"email": "a@example.com", "name": "A\x00"}, "/name"),
        ({"email": "a@example.com", "locale": "../../etc"}, "/locale"),
    ],
    ids=str,
)
async def test_an_address_that_could_add_a_header_or_a_recipient_is_refused(
    api, mesh_redis, mesh_keys, body, pointer
):
    document = assert_problem(await api.post("/v1/users/1/welcome-email", json=body), 422, "invalid-request")

    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert not await mesh_redis.exists(mesh_keys.events("user"))


@pytest.mark.parametrize(
    "email", ["ann..lee@docomo.ne.jp", "ann.@ezweb.ne.jp", '"ann lee"@example.com', " ann@example.com\n"]
)
async def test_addresses_that_exist_are_taken(api, mesh_redis, mesh_keys, email):
    assert (await api.post("/v1/users/1/welcome-email", json={"email": email})).status_code == 202

    ((_, fields),) = await mesh_redis.xrange(mesh_keys.events("user"))
    assert envelope.from_json(fields[b"e"]).data["email"] == email.strip()


async def test_hosts_of_ones_own_network_are_taken_where_the_operator_says_so(api, api_settings):
    def send():
        return api.post("/v1/users/1/welcome-email", json={"email": "ann@printer.local"})

    refused = assert_problem(await send(), 422, "invalid-request")
    object.__setattr__(api_settings, "local_domains", True)

    assert "EMAIL_LOCAL_DOMAINS" in refused["errors"][0]["detail"]
    assert (await send()).status_code == 202


@pytest.mark.parametrize("user_id", ["%00", "a%0d%0ab", "x" * 200, "%20", "é"])
async def test_an_odd_user_id_is_refused(api, user_id):
    answer = await api.post(f"/v1/users/{user_id}/welcome-email", json={"email": "a@example.com"})

    document = assert_problem(answer, 422, "invalid-request")
    assert document["errors"][0]["parameter"] == "user_id"


@pytest.mark.parametrize(
    ("content", "headers", "status", "kind"),
    [
        (b"{", {"content-type": "application/json"}, 400, "malformed-body"),
        (b"[" * 1_000 + b"]" * 1_000, {"content-type": "application/json"}, 422, "invalid-request"),
        (
            b"email=a@example.com",
            {"content-type": "application/x-www-form-urlencoded"},
            415,
            "unsupported-media-type",
        ),
        (b"{}", {}, 415, "unsupported-media-type"),
        (
            b"{}",
            {"content-type": "application/json", "content-encoding": "br"},
            415,
            "unsupported-media-type",
        ),
        (b"[]", {"content-type": "application/json"}, 422, "invalid-request"),
        (b" " * 300_000, {"content-type": "application/json"}, 413, "body-too-large"),
    ],
)
async def test_a_broken_body_is_refused(api, content, headers, status, kind):
    answer = await api.post("/v1/users/1/welcome-email", content=content, headers=headers)

    assert_problem(answer, status, kind)
