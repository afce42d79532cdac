"""`/v1/keys`: made, used, listed and revoked over HTTP by who has an admin key; the secret is told once."""

from __future__ import annotations

import pytest
from streammesh.api_keys import ApiKeys

from services.api.tests.expectations import assert_problem


@pytest.fixture
async def operator(api, mesh_redis, mesh_keys):
    return {"authorization": f"Bearer {await ApiKeys(mesh_redis, mesh_keys).create('boss', admin=True)}"}


async def test_a_key_is_made_works_is_listed_without_its_secret_and_revoked(api, operator):
    wanted = {"name": "warehouse", "publish": ["stock.*"], "expires_at": "2099-01-01T00:00:00Z"}
    answer = await api.post("/v1/keys", json=wanted, headers=operator)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    holder = {"authorization": f"Bearer {made['secret']}"}

    assert (await api.get("/v1/key", headers=holder)).json()["publish"] == ["stock.*"]
    listed = (await api.get("/v1/keys", headers=operator)).text
    assert '"warehouse"' in listed and made["secret"] not in listed
    assert made["expires_at"] == "2099-01-01T00:00:00.000Z" and made["expired"] is False
    assert_problem(await api.post("/v1/keys", json=wanted, headers=operator), 422, "invalid-request")

    gone = await api.delete("/v1/keys/warehouse", headers=operator)
    assert [one["name"] for one in gone.json()["keys"]] == ["warehouse"]
    assert '"warehouse"' not in (await api.get("/v1/keys", headers=operator)).text
    assert_problem(await api.delete("/v1/keys/warehouse", headers=operator), 404, "not-found")
    noted = (await api.get("/v1/audit", headers=operator)).text
    assert "create_key" in noted and "revoke_key" in noted and made["secret"] not in noted


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Not A Name"},
        {"name": "x", "publish": ["no type\n"]},
        {"name": "x", "rate": 0},
        {"name": "x", "rate": 10**30},
        {"name": "x", "expires_at": "2001-01-01T00:00:00Z"},
        {"name": "x", "sources": [" "]},
        {"name": "x", "publish": ["a"] * 101},
        {"name": "x", "secret": "mine"},
    ],
)
async def test_what_can_not_be_a_key_is_refused_and_nothing_is_made(api, operator, wrong):
    assert_problem(await api.post("/v1/keys", json=wrong, headers=operator), 422, "invalid-request")
    names = [one["name"] for one in (await api.get("/v1/keys", headers=operator)).json()["keys"]]
    assert "x" not in names and "Not A Name" not in names


async def test_nobody_revokes_the_key_that_he_sends(api, operator):
    assert_problem(await api.delete("/v1/keys/boss", headers=operator), 422, "invalid-request")
    assert (await api.get("/v1/keys", headers=operator)).status_code == 200
