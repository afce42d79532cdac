"""What publishing costs: one round trip, shared by who publishes at the same time."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from streammesh.events.envelope import BATCH

from services.api.settings import ApiSettings


@pytest.fixture
def api_settings() -> ApiSettings:
    hour = timedelta(hours=1)  # keys are known for as long as the test lasts
    return ApiSettings(_env_file=None, key_refresh=hour, key_lifetime=hour)


@pytest.fixture
def watched(mesh_redis_sync):
    """What the API asked the server while something ran, from MONITOR."""

    def of_the_api():
        return {c["addr"] for c in mesh_redis_sync.client_list() if c["name"].startswith("streammesh-api")}

    async def watched(action):
        before, seen = of_the_api(), []
        with mesh_redis_sync.monitor() as monitor:
            answer = await action
            mesh_redis_sync.echo("the end")
            for command in monitor.listen():
                if command["command"] == "ECHO the end":
                    break
                seen.append(
                    (f"{command['client_address']}:{command['client_port']}", command["command"].split()[0])
                )
        api = before | of_the_api()
        return answer, [command.upper() for address, command in seen if address in api]

    return watched


def batch(n, start=0):
    events = [
        {"specversion": "1.0", "id": str(start + i), "source": "s", "type": "order.placed"} for i in range(n)
    ]
    return {"content": json.dumps(events), "headers": {"content-type": BATCH}}


async def test_a_batch_of_a_thousand_is_one_round_trip(api, watched):
    await api.post("/v1/events", **batch(1, start=5_000))  # the key and the script are known from here on

    answer, commands = await watched(api.post("/v1/events", **batch(1_000)))

    assert (answer.status_code, len(answer.json()["events"])) == (202, 1_000)
    assert commands == ["EVALSHA"]


async def test_one_event_is_one_round_trip(api, watched):
    await api.post("/v1/events", json={"type": "a.b"})

    answer, commands = await watched(api.post("/v1/events", json={"type": "a.b"}))

    assert (answer.status_code, commands) == (202, ["EVALSHA"])


async def test_requests_at_the_same_time_share_round_trips(api, door):
    await api.post("/v1/events", json={"type": "a.b"})
    calls = door.app.state.wiring.publishing._shards[0].calls
    trips, load = [], calls._load

    def counted():
        trips.append(load())
        return trips[-1]

    calls._load = counted
    answers = await asyncio.gather(
        *(api.post("/v1/events", json={"type": "a.b", "data": n}) for n in range(100))
    )

    assert [answer.status_code for answer in answers] == [202] * 100
    assert sum(map(len, trips)) == 100
    assert len(trips) < 40


async def test_a_refusal_is_its_own_and_not_that_of_its_fellows(api):
    def send(id, n):
        return api.post("/v1/events", json={"type": "a.b", "id": id, "data": n})

    await send("taken", 1)
    answers = await asyncio.gather(*(send("taken" if n % 10 == 5 else str(n), 2) for n in range(50)))

    assert [answer.status_code for answer in answers] == [409 if n % 10 == 5 else 202 for n in range(50)]
