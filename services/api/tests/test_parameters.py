"""A misspelt filter is no filter: query parameters that a call does not know, or that come twice, are refused."""

from __future__ import annotations

import re

import pytest
from streammesh.names import OWN_PROCESSES

from services.api.tests.expectations import assert_problem


async def test_every_get_refuses_what_it_does_not_know(api):
    paths = (await api.get("/openapi.json")).json()["paths"]
    asked = [
        re.sub(r"{\w+}", "x", path) for path, has in paths.items() if "get" in has and path.startswith("/v1/")
    ]
    assert len(asked) > 10

    for path in asked:
        document = assert_problem(await api.get(path, params={"lmit": "5"}), 400, "malformed-request")
        assert document["errors"][0]["parameter"] == "lmit"


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/v1/events", "limit", "5"),
        ("/v1/events/x", "source", "shop"),
        ("/v1/dead-letters", "service", "a"),
        ("/v1/subscriptions", "paused", "true"),
    ],
)
async def test_a_parameter_that_comes_twice_is_refused(api, path, name, value):
    assert (await api.get(path, params={name: value})).status_code in (200, 404)

    answer = await api.get(path, params=[(name, value), (name, value)])

    assert "2 times" in assert_problem(answer, 400, "malformed-request")["detail"]


async def test_the_rest_that_changes_something_refuses_them_too(api):
    answer = await api.post("/v1/dead-letters/replay", params={"dryrun": "true"}, json={"service": "a"})

    assert_problem(answer, 400, "malformed-request")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/docs"])
async def test_a_probe_may_add_what_it_likes(api, path):
    assert (await api.get(path, params={"t": "1763790000"})).status_code == 200


async def test_what_is_wrong_is_said_in_words_that_the_sender_has(api):
    """No name of a class or a library, the place as it was sent, and what to do."""
    for path, named, detail in (
        (
            "/v1/events?since=1h",
            "since",
            "should be an RFC 3339 time with a zone, such as 2026-11-22T06:00:00Z",
        ),
        ("/v1/events?since=2026-11-22T06:00:00", "since", "should be an RFC 3339 time with a zone"),
        ("/v1/events?limit=x", "limit", "should be a whole number"),
        ("/v1/events?limit=0", "limit", "should be at least 1"),
        ("/v1/notifications?type=a&type=", "type", "should have at least 1 character"),
        ("/v1/events?standing=maybe", "standing", "should be true or false"),
    ):
        found = assert_problem(await api.get(path), 422, "invalid-request")["errors"]
        assert found[0]["parameter"] == named and found[0]["detail"].startswith(detail)
    answer = await api.get("/v1/notifications?where=nope")
    assert assert_problem(answer, 400, "malformed-request")["detail"].endswith("did you mean data.nope?")
    for path, body, pointer, detail in (
        ("/v1/tokens", [], "", "should be a JSON object"),
        ("/v1/tokens", {"str": 1}, "/str", "is not known here"),
        ("/v1/tokens", {"lifetime": None}, "/lifetime", "should be a duration such as 15s, 30m, 24h or 7d"),
        ("/v1/tokens", {"types": []}, "/types", "should have at least 1 item"),
        ("/v1/webhooks", {}, "/url", "is required"),
        ("/v1/webhooks", {"url": 1}, "/url", "should be text"),
        (f"/v1/webhooks/wh_{'0' * 32}/replay", {"after": "x"}, "/after", "a position looks like"),
    ):
        found = assert_problem(await api.post(path, json=body), 422, "invalid-request")["errors"]
        assert found[0]["pointer"] == pointer and found[0]["detail"].startswith(detail)


async def test_what_no_branch_of_a_choice_takes_has_one_place_and_what_each_says(api):
    body = {"url": "https://shop.example/", "subscriptions": [{"type": "a.b", "where": 1}]}
    found = assert_problem(await api.put("/v1/services/shop", json=body), 422, "invalid-request")["errors"]
    assert found == [
        {"pointer": "/subscriptions/0/where", "detail": "should be a JSON object, or should be text"}
    ]


async def test_every_answer_forbids_guessing_its_type_and_telling_its_address(api):
    for path in ("/v1/key", "/v1/events/none", "/docs", "/ui/", "/openapi.json", "/nope"):
        headers = (await api.get(path)).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"], path
        assert headers.get_list("referrer-policy") == ["no-referrer"], path


@pytest.mark.parametrize("name", sorted(OWN_PROCESSES))
async def test_a_service_with_a_url_is_not_called_as_a_process_of_the_mesh(api, mesh_redis, mesh_keys, name):
    """It could not be taken away again, since a process of that name always lives."""
    body = {"url": "https://shop.example/", "subscriptions": [{"type": "a.b"}]}
    assert (
        "take another"
        in assert_problem(await api.put(f"/v1/services/{name}", json=body), 422, "invalid-request")["detail"]
    )
    assert not await mesh_redis.hexists(mesh_keys.manifests(), name)
