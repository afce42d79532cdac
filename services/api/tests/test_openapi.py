"""`/openapi.json`: it says what is sent, all of it; generators and validators take it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from streammesh.health import Health

from services.api.tests.conformance import Conformance, strict

WITHOUT_REFUSAL = {"/livez", "/healthz"}  # nothing can be wrong with a question that has no parts


async def test_every_route_answers_as_it_is_described_well_and_badly(
    live, mesh, conformance, store_settings, monkeypatch
):
    """The hook of `live` compares each answer strictly; here every route has to have been asked, and to have refused."""
    monkeypatch.setattr(Health, "measures", lambda _: b"# EOF\n")  # this process measures nothing
    await mesh.subscribe("worker", "order.placed")
    for n in ("1", "2", "3"):
        event = {"type": "order.placed", "id": n, "source": "shop", "data": {"n": n}, "extra": True}
        assert (await live.post("/v1/events", json=event)).status_code == 202
    done, failed, again = await mesh.dispatch("order", "worker")
    await mesh.start(done)
    await mesh.progress(done, 0.5, "half way")
    await mesh.start(again)
    await mesh.retry(again)
    await live.get("/v1/events/3")
    await mesh.succeed(done, {"total": 2**70})
    await mesh.start(failed)
    await mesh.fail(failed, "no such customer")
    await live.get("/v1/events/1")
    [letter] = (await live.get("/v1/dead-letters")).json()["dead_letters"]

    asked = (await live.post("/v1/reports", json={"rows": [{"a": 1}], "group_by": "a"})).json()["report_id"]
    folder = Path(store_settings.store_url) / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{asked}.pdf").write_bytes(b"%PDF-1.7")
    about = {"title": "Report", "pages": 1, "event": ["shop", asked]}
    (folder / f"{asked}.json").write_text(json.dumps(about))

    batch = {"content-type": "application/cloudevents-batch+json"}
    envelope = {"specversion": "1.0", "id": "4", "source": "shop", "type": "order.placed"}
    await live.post("/v1/events", content=json.dumps([envelope]), headers=batch)
    task = done.ref.task_id
    for path in (
        *(
            "/",
            "/livez",
            "/metrics",
            "/healthz",
            "/readyz",
            "/problems/forbidden",
            "/v1/status",
            "/v1/services",
            "/v1/services/worker",
            "/v1/failures",
            "/v1/key",
        ),
        *("/v1/subscriptions", "/v1/events", "/v1/events/1", f"/v1/tasks/{task}", "/v1/dead-letters"),
        *("/v1/tasks", "/v1/tasks?state=ended", "/v1/audit", "/v1/manifests", "/v1/events?standing=true"),
        *("/v1/types", "/v1/types/order.placed", f"/v1/tasks/{task}/streams/tokens"),
        *(f"/v1/dead-letters/{letter['id']}", f"/v1/reports/{asked}", f"/v1/reports/{asked}.pdf"),
    ):
        await live.get(path)
    await live.post("/v1/users/42/welcome-email", json={"email": "ann@example.com"})
    await live.get("/v1/subscriptions/worker.handle/keys")
    await live.patch("/v1/subscriptions/worker.handle", json={"total": None})
    await live.post("/v1/subscriptions/worker.handle/pause", json={"reason": "tea"})
    await live.post("/v1/subscriptions/worker.handle/resume")
    (queued,) = await mesh.dispatch("order", "worker")
    for action in ("signal", "cancel"):
        await live.post(f"/v1/tasks/{queued.ref.task_id}/{action}", json={} if action == "signal" else None)
    for action in ("replay", "drop"):
        await live.post(f"/v1/dead-letters/{action}", json={"filter": {}, "dry_run": True})
    await live.post("/v1/tokens", json={"types": ["order.*"]})
    await use_backfills(live)
    await use_webhooks(live)
    await use_urls(live, mesh)
    await live.delete("/v1/services/worker")
    daily = {"cron": "0 9 * * *", "event": {"type": "report.requested", "data": {}}}
    await live.put("/v1/schedules/daily", json=daily)
    for path in ("/v1/schedules", "/v1/schedules/daily"):
        await live.get(path)
    for action in ("disable", "enable", "trigger"):
        await live.post(f"/v1/schedules/daily/{action}")
    await live.delete("/v1/schedules/daily")
    await live.post("/v1/keys", json={"name": "another", "publish": ["order.*"]})
    await live.get("/v1/keys")
    await live.delete("/v1/keys/another")
    for path in ("/v1/notifications", "/v1/events/2/notifications"):
        async with live.stream("GET", path) as answer:
            assert answer.status_code == 200

    nobody = {"authorization": "Bearer nobody"}
    for path, method in conformance.operations():
        at = path.replace("{report_id}", "r").replace("{name}", "none").replace("{", "").replace("}", "")
        await live.request(method, at, headers=nobody)

    sent = {(path, method) for path, method, status in conformance.seen if status < 300}
    assert sent == set(conformance.operations())
    refused = {path for path, _, status in conformance.seen if status >= 400}
    assert refused == {path for path, _ in conformance.operations()} - WITHOUT_REFUSAL - {"/readyz"}


async def use_backfills(live):
    wanted = {"service": "worker", "since": "2026-01-01T00:00:00Z"}
    assert (await live.post("/v1/backfills", json={**wanted, "dry_run": True})).json()["tasks"] == 0
    begun = (await live.post("/v1/backfills", json=wanted)).json()
    again = await live.post("/v1/replays", json={**wanted, "states": ["succeeded"], "dry_run": True})
    assert again.json()["events"] >= 3
    for method, path in (("GET", ""), ("GET", f"/{begun['id']}"), ("DELETE", f"/{begun['id']}")):
        assert (await live.request(method, f"/v1/backfills{path}")).is_success


async def use_webhooks(live):
    made = await live.post("/v1/webhooks", json={"url": "https://shop.example/hook"})
    path = f"/v1/webhooks/{made.json()['id']}"
    for method, at, said in (
        ("GET", "/v1/webhooks", None),
        ("GET", path, None),
        ("PATCH", path, {"ordered": True}),
        ("POST", f"{path}/test", None),
        ("POST", f"{path}/replay", {"after": "0"}),
        ("POST", f"{path}/secret", {}),
        ("GET", f"{path}/attempts", None),
        ("DELETE", path, None),
    ):
        assert (await live.request(method, at, json=said)).is_success


async def use_urls(live, mesh):
    wanted = {"url": "https://shop.example/work", "subscriptions": [{"type": "order.placed"}]}
    put = await live.put("/v1/services/by_url", json=wanted)
    assert put.json()["secret"].startswith("whsec_")
    await live.post("/v1/events", json={"type": "order.placed", "data": {}})
    (task,) = await mesh.dispatch("order", "by_url")
    at = f"/v1/tasks/{task.ref.task_id}/result"
    assert (await live.post(at, json={"result": 1})).json()["duplicate"] is False
    assert (await live.post(at, json={"reject": "late"})).json()["duplicate"] is True
    nobody = {"streammesh-result-token": "none"}
    assert (await live.post(at, json={"result": 1}, headers=nobody)).status_code == 404


@pytest.mark.parametrize(
    "more", [{"surprise": 1}, {"links": {"self": "/", "notifications": "/", "else": "/"}}]
)
def test_a_member_that_is_not_described_is_found(door, more):
    conformance = Conformance(json.loads(json.dumps(door.app.openapi())))
    answer = {"id": "1", "source": "s", "type": "t", "duplicate": False} | {
        "links": {"self": "/", "notifications": "/"}
    }
    where = ("/v1/users/{user_id}/welcome-email", "post", "202", "application/json")

    assert conformance.wrong(*where, json.dumps(answer).encode()) is None
    assert conformance.wrong(*where, json.dumps({**answer, **more}).encode())
    assert conformance.wrong(*where, json.dumps({**answer, "id": None}).encode())


def test_the_strict_reading_closes_every_object():
    assert strict({"properties": {"a": {"properties": {}}}}) == {
        "properties": {"a": {"properties": {}, "additionalProperties": False}},
        "additionalProperties": False,
    }


def test_the_document_is_valid_openapi(door):
    assert not list(OpenAPIV31SpecValidator(door.app.openapi()).iter_errors())


def test_every_model_of_the_document_is_used_and_there_is_one_of_each_name(door):
    document = door.app.openapi()
    text = json.dumps(document)
    models = document["components"]["schemas"]
    assert not [name for name in models if f'"#/components/schemas/{name}"' not in text]
    assert not [name for name in models if name.endswith(("-Input", "-Output")) or "__" in name]


MADE = Path(__file__).parents[3] / "var" / "sdks" / "bin" / "openapi-python-client"  # by `make sdks`
GENERATOR = str(MADE) if MADE.exists() else shutil.which("openapi-python-client")


@pytest.mark.skipif(
    not GENERATOR,
    reason="needs `make sdks`, or openapi-python-client on the PATH (it wants another typer than we)",
)
def test_a_client_is_generated_from_it_without_a_warning(door, tmp_path):
    (tmp_path / "openapi.json").write_text(json.dumps(door.app.openapi()))
    # The generator knows no PDF; bytes are bytes. Its hooks would format what it wrote.
    config = {"content_type_overrides": {"application/pdf": "application/octet-stream"}, "post_hooks": []}
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [GENERATOR, "generate", "--path", "openapi.json", "--output-path", "mesh_api"]
    command += ["--config", "config.json", "--meta", "none", "--fail-on-warning"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "mesh_api" / "models" / "event_state.py").exists()
