"""A worker that is only a URL: its tasks are in the ledger as everybody's, its answers are their results."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook as Verifier
from streammesh.embedded import free_port
from streammesh.redisio.heartbeat import alive
from streammesh.testing.conditions import wait_until, wait_until_sync

from tests.harness.processes import ROOT, MeshProcess

SERVICES: list[str] = []
KEY = "an-admin-key-of-the-tests-own"
AS_ADMIN = {"authorization": f"Bearer {KEY}"}
NODE = shutil.which("node")


@pytest.fixture(scope="module")
def api(mesh) -> Iterator[str]:
    """The API and a webhook worker, as processes."""
    environment = {**mesh.env, "WEBHOOK_ALLOW_PRIVATE": '["127.0.0.0/8"]', "WEBHOOK_TIMEOUT": "1s"}
    environment |= {"API_PORT": "0", "API_ADMIN_KEY": KEY, "REPORT_STORE_URL": str(mesh.folder / "store")}
    started = [
        MeshProcess(name, f"services.{name}", environment, mesh.folder).start()
        for name in ("api", "webhook_worker")
    ]
    try:
        found = wait_until_sync(
            "the API listens",
            lambda: re.search(r'"url":"(http://[^"]+)"', started[0].log.read_text()),
            seconds=90,
        )
        yield found[1]
    finally:
        codes = [process.stop() for process in started]
        logs = "".join(process.log.read_text() for process in started)
        assert codes == [0, 0], logs[-4_000:]
    assert "Traceback" not in logs, logs[-4_000:]


class Url:
    """A URL that answers as a test says, and remembers what came."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.answers: dict[str, list[tuple[int, dict[str, str], str]]] = {}

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        event = json.loads(body)
        mine = [1 for _, other in self.requests if json.loads(other)["id"] == event["id"]]
        answers = self.answers[event["data"]["case"]]
        status, headers, text = answers[min(len(mine), len(answers)) - 1]
        return web.Response(status=status, headers=headers, text=text)


@pytest.fixture
async def url() -> AsyncIterator[Url]:
    made = Url()
    app = web.Application()
    app.router.add_post("/{tail:.*}", made.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


async def call(method: str, url: str, status: int, headers: dict[str, str] = AS_ADMIN, **more: Any) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers=headers, **more) as answer,
    ):
        text = await answer.text()
        assert answer.status == status, text
        return json.loads(text)


async def joined(ask, api: str, service: str, url: str, event_type: str) -> str:
    """Register it and wait until a webhook worker works for it; answers the secret."""
    wanted = {
        "url": url,
        "subscriptions": [{"type": event_type, "name": "handle", "retries": 3}],
        "timeout": "2s",
    }
    put = await call("PUT", f"{api}/v1/services/{service}", 200, json=wanted)

    async def lives() -> list[str]:
        return await alive(ask.redis, ask.mesh.keys, service)

    await wait_until(f"{service} works", lives, seconds=90)
    again = await call("PUT", f"{api}/v1/services/{service}", 200, json=wanted)
    assert again["secret"] is None and again["secrets"] == 1
    return str(put["secret"])


async def test_each_answer_means_what_it_should_and_a_later_result_counts(ask, api, url):
    """One process for all: result, reject, retry, failure with retries, accepted and said later; then removal."""
    secret = await joined(ask, api, "billing", url.url, "bill.asked")
    url.answers = {
        "now": [(200, {}, '{"invoice": 7}')],
        "nothing": [(204, {}, "")],
        "never": [(422, {}, "no such customer")],
        "wait": [(503, {"retry-after": "1"}, ""), (200, {}, '"then"')],
        "broken": [(500, {}, ""), (200, {}, "3")],
        "later": [(202, {}, "")],
        "late-no": [(202, {}, "")],
    }
    ids = {case: await ask.publish("bill.asked", {"case": case}) for case in url.answers}

    async def accepted() -> dict[str, dict[str, str]]:
        waiting = {}
        for headers, body in url.requests:
            case = json.loads(body)["data"]["case"]
            row = await ask.rows.task(headers["streammesh-task"])
            if case in ("later", "late-no") and row and row.state == "waiting":
                waiting[case] = headers
        return waiting if len(waiting) == 2 else {}

    waiting = await wait_until("both wait for their results", accepted)
    for case, said in (("later", {"result": {"done": True}}), ("late-no", {"reject": "it burned down"})):
        task, token = waiting[case]["streammesh-task"], waiting[case]["streammesh-result-token"]
        at = f"{api}/v1/tasks/{task}/result"
        await call("POST", at, 404, {"streammesh-result-token": "another"}, json=said)
        await call("POST", at, 422, {"streammesh-result-token": token}, json={"result": 1, "reject": "x"})
        await call("POST", at, 202, {"streammesh-result-token": token}, json=said)
    tasks = {case: (await ask.ended(event_id))[0] for case, event_id in ids.items()}

    assert {case: task.state for case, task in tasks.items()} == {
        **dict.fromkeys(("now", "nothing", "wait", "broken", "later"), "succeeded"),
        **dict.fromkeys(("never", "late-no"), "failed"),
    }
    results = {case: task.result for case, task in tasks.items() if task.state == "succeeded"}
    assert results == {
        **{"now": {"invoice": 7}, "nothing": None, "wait": "then", "broken": 3, "later": {"done": True}}
    }
    assert [tasks[case].error["reason"] for case in ("never", "late-no")] == [
        "no such customer",
        "it burned down",
    ]
    assert tasks["broken"].attempt == 2 and tasks["wait"].attempt == 2

    headers, body = url.requests[0]
    event = Verifier(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    assert event["specversion"] == "1.0" and event["type"] == "bill.asked"
    await call("POST", f"{api}/v1/tasks/{tasks['now'].id}/result", 409, json={"result": 2})

    gone = await call("DELETE", f"{api}/v1/services/billing", 200)
    assert gone["removed"]
    assert not await ask.redis.hexists(ask.mesh.keys.url_workers(), "billing")


@pytest.mark.skipif(NODE is None, reason="needs Node on the PATH")
async def test_the_worker_in_node_joins_without_an_sdk(ask, api):
    port = free_port()
    wanted = {"url": f"http://127.0.0.1:{port}/", "subscriptions": [{"type": "order.placed"}]}
    secret = (await call("PUT", f"{api}/v1/services/invoices", 200, json=wanted))["secret"]
    node = await asyncio.create_subprocess_exec(
        *(str(NODE), str(ROOT / "examples" / "node_worker" / "worker.mjs")),
        env={"SECRET": secret, "PORT": str(port)},
        stdout=subprocess.PIPE,
    )
    assert node.stdout is not None
    assert b"listening" in await node.stdout.readline()
    done = await ask.run("order.placed", {"order_id": 7, "total": 9.5})
    wrong = await ask.run("order.placed", {"order_id": 8})
    node.terminate()
    await node.wait()
    await call("DELETE", f"{api}/v1/services/invoices", 200)
    assert done.state == "succeeded" and done.result == {"invoice": "I-7", "total": 9.5}
    assert wrong.state == "failed" and "total should be a number" in str(wrong.error)
