"""What may be asked of a stream, and what its frames look like on the wire."""

from __future__ import annotations

import asyncio

import pytest

from services.api.tests.expectations import assert_problem
from services.api.tests.sse import listening


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "1-",
        "-1",
        "²",
        "99999999999999999999-0",
        "18446744073709551615",
        "1-18446744073709551615",
        "1-0-0",
        "$",
        "\x00",
        "1-0\r\n",
    ],
)
async def test_a_position_that_is_none_is_refused(api, bad):
    assert_problem(await api.get("/v1/notifications", params={"after": bad}), 400, "malformed-request")


async def test_a_last_event_id_that_is_none_is_refused(api):
    answer = await api.get("/v1/notifications", headers={"last-event-id": "yesterday"})

    assert_problem(answer, 400, "malformed-request")


async def test_the_last_position_that_redis_can_read_after_is_none_too_many(live):
    async with listening(live, "/v1/notifications", params={"after": f"{2**64 - 2}-{2**64 - 2}"}) as stream:
        assert (await stream.next()).type == "resync"


@pytest.mark.parametrize(
    "query", [[("tpye", "task.*")], [("after", "0"), ("after", "1")], [("event", "a"), ("event", "b")]]
)
@pytest.mark.parametrize("path", ["/v1/notifications", "/v1/events/x/notifications"])
async def test_a_parameter_that_is_unknown_or_repeated_is_refused(api, path, query):
    document = assert_problem(await api.get(path, params=query), 400, "malformed-request")

    assert document["errors"][0]["in"] == "query"


async def test_the_id_is_the_last_line_of_a_frame(live, mesh):
    """Clients that take an id over as they read it lose nothing when the connection is cut within a frame."""
    async with live.stream("GET", "/v1/notifications") as response:
        await mesh.tell()
        lines = response.aiter_lines()
        frame: list[str] = []
        async with asyncio.timeout(5):
            while not any(line.startswith("data:") for line in frame):
                frame = []
                while line := await anext(lines):
                    frame.append(line)

    assert [line.partition(":")[0] for line in frame] == ["event", "data", "id"]


async def test_clients_come_back_at_different_moments(live):
    waits = set()
    for _ in range(6):
        async with listening(live, "/v1/notifications") as stream:
            waits.add(stream.retry)

    assert len(waits) > 1


@pytest.mark.parametrize("query", [{"type": "x" * 257}, {"type": ""}, {"event": ""}, {"event": "x" * 1_025}])
async def test_a_filter_that_cannot_fit_is_refused(api, query):
    assert_problem(await api.get("/v1/notifications", params=query), 422, "invalid-request")
