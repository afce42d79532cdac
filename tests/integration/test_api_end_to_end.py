"""Over the front door: from an HTTP request through a real dispatcher and worker to what is pushed back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from streammesh.testing.conditions import wait_until_sync

from tests.harness.processes import MeshProcess

SERVICES = ["tests.probe"]
KEY = "a-key-for-these-tests-1234"
RECONNECTS = 60


@pytest.fixture(scope="module")
def replicas(mesh):
    """The URLs of two API processes of the same mesh."""
    environment = {
        **mesh.env,
        "API_PORT": "0",
        "API_ADMIN_KEY": KEY,
        "API_HEARTBEAT": "300ms",
        "REPORT_STORE_URL": str(mesh.folder / "store"),
    }
    processes = [MeshProcess(f"api-{n}", "services.api", environment, mesh.folder).start() for n in range(2)]
    urls = []
    try:
        for process in processes:
            found = wait_until_sync(
                f"{process.name} listens",
                lambda: re.search(r'"url":"(http://[^"]+)"', process.log.read_text()),  # noqa: B023  asked before the next round
            )
            urls.append(found[1])
        yield urls
    finally:
        codes = [process.stop() for process in processes]
        logs = "".join(process.log.read_text() for process in processes)
    assert codes == [0, 0], logs
    assert "Traceback" not in logs, logs


@pytest.fixture
async def api(replicas) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=replicas[0], headers=headers, timeout=20) as client:
        yield client


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    """(id, type, data) of each server-sent event."""
    position, kind, data = "", "", ""
    async for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            position = value
        elif name == "event":
            kind = value
        elif name == "data":
            data = value
        elif not line and data:
            yield position, kind, json.loads(data)
            kind, data = "", ""


async def test_what_was_published_is_done_and_pushed_back(api):
    sent = (await api.post("/v1/events", json={"type": "probe.recorded", "data": {"a": 1}})).json()

    async with api.stream("GET", sent["links"]["notifications"]) as response:
        heard = [(kind, data) async for _, kind, data in events_of(response.aiter_lines())]
    found = (await api.get(sent["links"]["self"])).json()
    task = (await api.get(f"/v1/tasks/{found['deliveries'][0]['task_id']}")).json()

    assert [kind for kind, _ in heard] == ["task.queued", "task.started", "task.succeeded", "event.completed"]
    assert heard[2][1]["data"] == {"result": {"attempt": 1}}
    assert (found["state"], task["state"], task["result"]) == ("completed", "succeeded", {"attempt": 1})
    assert task == found["deliveries"][0]["task"]
    assert task["worker"].startswith("probe")


async def test_an_event_that_nobody_wants_is_told_so(api):
    sent = (await api.post("/v1/events", json={"type": "probe.unheard"})).json()

    async with api.stream("GET", sent["links"]["notifications"]) as response:
        heard = [kind async for _, kind, _ in events_of(response.aiter_lines())]
    found = (await api.get(sent["links"]["self"])).json()

    assert (heard, found["state"]) == (["event.unrouted"], "unrouted")


async def test_a_client_that_reconnects_over_two_replicas_misses_nothing_and_hears_nothing_twice(
    api, replicas
):
    published, heard, position = [], [], None
    stop = asyncio.Event()

    async def publish():
        while not stop.is_set():
            sent = await api.post("/v1/events", json={"type": "probe.noop"})
            published.append(sent.json()["id"])
            await asyncio.sleep(0.005)

    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
        began = (await api.get("/v1/events", params={"limit": 1})).status_code
        async with client.stream("GET", f"{replicas[0]}/v1/notifications") as response:
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    position = line.removeprefix("id: ")
                    break
        publishing = asyncio.create_task(publish())
        ended = 0
        for turn in range(10_000):
            url = f"{replicas[turn % 2]}/v1/notifications"
            query = {"type": "event.completed"}
            async with client.stream(
                "GET", url, params=query, headers={"last-event-id": position}
            ) as response:
                left = 1 + turn % 7
                async for at, kind, data in events_of(response.aiter_lines()):
                    assert kind == "event.completed", (kind, data)
                    position = at
                    heard.append(data["event"]["id"])
                    ended += 1
                    left -= 1
                    if not left or (stop.is_set() and len(heard) >= len(published)):
                        break
            if turn == RECONNECTS:
                stop.set()
                await publishing
            if stop.is_set() and len(heard) >= len(published):
                break

    assert began == 200
    assert len(heard) == len(set(heard))
    assert sorted(heard) == sorted(published)
