"""A misspelt filter is no filter: query parameters that a call does not know, or that come twice, are refused."""

from __future__ import annotations

import re

import pytest

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
