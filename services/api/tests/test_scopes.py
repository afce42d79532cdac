"""Every route for every kind of key and token: who may not read a type is told nothing of it, by no route."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from streammesh import lua
from streammesh.subscriptions.manifest import Manifest, Subscription
from streammesh.subscriptions.registry import register_call

HIDDEN = "hidden"  # in every name of what the others may not see
KIND = f"{HIDDEN}.placed"
EVENT = {"type": KIND, "data": {"n": HIDDEN}}
ANYBODY = (200, 200, 200, 200, 200)
LISTED = (401, 403, 200, 200, 200)  # to others: a list without what is hidden
FOUND = (401, 404, 404, 404, 200)  # to others: as if it had never been
KEYS_FOUND = (401, 403, 404, 404, 200)  # the same, and tokens read events and tasks alone
OTHERS = (401, 403, 404, 404, 404)  # another key's own
ADMIN = (401, 403, 403, 403, 403)
WHOLE = ADMIN  # of the whole mesh: for those who may read every type
PUBLISHED = (401, 403, 403, 202, 403)
CHANGED = (401, 403, 404, 409, 403)  # it has ended already, which who may publish its type is told
# Each route, and what is answered to nobody at all, to a token and a key for other types, to a key that may publish
# the hidden types, and to one that may read them. A new route needs a row.
ROUTES: dict[tuple[str, str], tuple[int, ...]] = {
    ("get", "/v1/notifications"): (401, 200, 200, 200, 200),
    ("get", "/v1/events/{event_id}/notifications"): FOUND,
    ("post", "/v1/events"): PUBLISHED,
    ("get", "/v1/events"): LISTED,
    ("get", "/v1/events/{event_id}"): FOUND,
    ("get", "/v1/tasks"): LISTED,
    ("get", "/v1/tasks/{task_id}"): FOUND,
    ("post", "/v1/tasks/{task_id}/cancel"): CHANGED,
    ("post", "/v1/tasks/{task_id}/signal"): CHANGED,
    ("get", "/v1/dead-letters"): LISTED,
    ("post", "/v1/dead-letters/replay"): ADMIN,
    ("post", "/v1/dead-letters/drop"): ADMIN,
    ("get", "/v1/dead-letters/{letter_id}"): KEYS_FOUND,
    ("get", "/v1/subscriptions"): LISTED,
    ("post", "/v1/subscriptions/{task}/pause"): ADMIN,
    ("post", "/v1/subscriptions/{task}/resume"): ADMIN,
    ("post", "/v1/users/{user_id}/welcome-email"): ADMIN,
    ("post", "/v1/reports"): ADMIN,
    ("get", "/v1/reports/{report_id}.pdf"): OTHERS,
    ("get", "/v1/reports/{report_id}"): OTHERS,
    ("get", "/metrics"): WHOLE,
    ("get", "/v1/status"): WHOLE,
    ("get", "/v1/services"): WHOLE,
    ("delete", "/v1/services/{service}"): ADMIN,
    ("get", "/v1/schedules"): LISTED,
    ("get", "/v1/schedules/{name}"): KEYS_FOUND,
    ("put", "/v1/schedules/{name}"): ADMIN,
    ("delete", "/v1/schedules/{name}"): ADMIN,
    ("post", "/v1/schedules/{name}/enable"): ADMIN,
    ("post", "/v1/schedules/{name}/disable"): ADMIN,
    ("post", "/v1/schedules/{name}/trigger"): ADMIN,
    ("get", "/v1/manifests"): LISTED,
    ("get", "/v1/key"): LISTED,
    ("post", "/v1/tokens"): (401, 403, 201, 403, 201),
    ("get", "/v1/types"): LISTED,
    ("get", "/v1/types/{type}"): KEYS_FOUND,
    ("get", "/v1/audit"): ADMIN,
    ("get", "/v1/keys"): ADMIN,
    ("post", "/v1/keys"): ADMIN,
    ("delete", "/v1/keys/{name}"): ADMIN,
    ("get", "/v1/webhooks"): LISTED,  # each has its own
    ("post", "/v1/webhooks"): (401, 403, 201, 403, 201),
    ("get", "/v1/webhooks/{webhook_id}"): OTHERS,
    ("patch", "/v1/webhooks/{webhook_id}"): OTHERS,
    ("delete", "/v1/webhooks/{webhook_id}"): OTHERS,
    ("get", "/v1/webhooks/{webhook_id}/attempts"): OTHERS,
    ("post", "/v1/webhooks/{webhook_id}/replay"): OTHERS,
    ("post", "/v1/webhooks/{webhook_id}/test"): OTHERS,
    ("post", "/v1/webhooks/{webhook_id}/secret"): OTHERS,
    ("put", "/v1/services/{service}"): ADMIN,
    ("post", "/v1/tasks/{task_id}/result"): (401, 404, 404, 404, 404),
    ("get", "/v1/tasks/{task_id}/streams/{name}"): FOUND,
    ("get", "/v1/failures"): LISTED,
    ("get", "/v1/services/{service}"): WHOLE,
    ("get", "/v1/subscriptions/{task}/keys"): KEYS_FOUND,
    ("patch", "/v1/subscriptions/{task}"): ADMIN,
    ("get", "/v1/backfills"): ADMIN,
    ("post", "/v1/backfills"): ADMIN,
    ("get", "/v1/backfills/{backfill_id}"): ADMIN,
    ("delete", "/v1/backfills/{backfill_id}"): ADMIN,
    ("post", "/v1/replays"): ADMIN,
    ("get", "/livez"): ANYBODY,
    ("get", "/healthz"): ANYBODY,
    ("get", "/readyz"): ANYBODY,
    ("get", "/problems/{name}"): (404, 404, 404, 404, 404),
}
NOT_DESCRIBED = {"/asyncapi.json": (200, 200, 200, 200, 200)}  # it is of the types that a key may read
BODIES: dict[str, Any] = {
    "/v1/events": EVENT,
    "/v1/users/{user_id}/welcome-email": {"email": "ann@example.com"},
}
BODIES["/v1/reports"] = {"rows": [{"a": 1}], "group_by": "a"}
BODIES["/v1/keys"] = {"name": "another"}
BODIES["/v1/webhooks"] = {"url": "https://shop.example/hooks"}
BODIES["/v1/webhooks/{webhook_id}"] = {"enabled": False}
BODIES["/v1/webhooks/{webhook_id}/replay"] = {"since": "2026-11-22T06:00:00Z"}
BODIES["/v1/services/{service}"] = {"url": "https://w.example/", "subscriptions": [{"type": KIND}]}
BODIES["/v1/backfills"] = {"service": f"{HIDDEN}_worker", "type": KIND}
BODIES["/v1/replays"] = {"subscription": f"{HIDDEN}_worker.handle", "states": ["failed"]}
BODIES["/v1/subscriptions/{task}"] = {"concurrency": 1}
BODIES["/v1/tasks/{task_id}/result"] = {"result": 1}
OF_A_KEY = {"/v1/key", "/v1/webhooks"}  # each key's own, whatever it may read
EMPTY = {"/v1/tasks/{task_id}/streams/{name}"}  # no handler ran that could have streamed
WHO = ("nobody", "a token for others", "a key for others", "a publisher", "a reader")


@pytest.fixture
async def house(live, mesh, mesh_redis, mesh_keys, make_key, store_settings) -> dict[str, Any]:
    """A mesh in which all is hidden, and the headers of each who asks."""
    wanted = (Subscription(f"{HIDDEN}_worker", f"{HIDDEN}_worker.handle", f"{HIDDEN}.*"),)
    manifest = Manifest(
        f"{HIDDEN}_worker", subscriptions=wanted, publishes={f"{HIDDEN}.done": {"title": HIDDEN}}
    )
    await lua.run(mesh_redis, register_call(mesh_keys, manifest))
    for n in range(1, 4):
        sent = {**EVENT, "id": f"{HIDDEN}-{n}", "source": "shop", "subject": f"{HIDDEN}/1"}
        assert (await live.post("/v1/events", json=sent)).status_code == 202
    first, second, _ = await mesh.dispatch(HIDDEN, f"{HIDDEN}_worker")
    for task in (first, second):
        await mesh.start(task)
    await mesh.succeed(first, {"result": HIDDEN})
    await mesh.fail(second, f"{HIDDEN} reason")
    schedule = {"cron": "0 9 * * *", "event": {"type": KIND, "data": {}}}
    assert (await live.put(f"/v1/schedules/{HIDDEN}-daily", json=schedule)).status_code == 200
    report = (await live.post("/v1/reports", json={"rows": [{"a": 1}], "group_by": "a"})).json()["report_id"]
    folder = Path(store_settings.store_url) / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{report}.pdf").write_bytes(b"%PDF-1.7")
    (letter,) = (await live.get("/v1/dead-letters")).json()["dead_letters"]
    hook = {"url": f"https://{HIDDEN}.example/hooks", "types": [f"{HIDDEN}.*"]}
    webhook = (await live.post("/v1/webhooks", json=hook)).json()["id"]
    token = (await live.post("/v1/tokens", json={"types": ["other.*"]})).json()["token"]
    secrets = [
        await make_key("stranger", publish=["other.*"], subscribe=["other.*"]),
        await make_key("publisher", publish=[f"{HIDDEN}.*"]),
        await make_key("reader", subscribe=[f"{HIDDEN}.*"]),
    ]
    return {
        "ids": {
            "webhook_id": webhook,
            **{"event_id": f"{HIDDEN}-1", "task_id": first.ref.task_id, "letter_id": letter["id"]},
            **{
                "service": f"{HIDDEN}_worker",
                "report_id": report,
                "task": wanted[0].task,
                "user_id": "42",
                "type": KIND,
                "backfill_id": "none",
            },
        },
        "who": [{"authorization": ""}, *({"authorization": f"Bearer {key}"} for key in (token, *secrets))],
    }


def at(path: str, ids: dict[str, str]) -> str:
    name = f"{HIDDEN}-daily" if "schedules" in path else f"{HIDDEN}_worker"
    for parameter, value in {**ids, "name": name}.items():
        path = path.replace(f"{{{parameter}}}", value)
    assert "{" not in path, path
    return path


async def asked(
    live: httpx.AsyncClient, method: str, path: str, body: Any, who: dict[str, str]
) -> tuple[int, str]:
    """The status, and what was told: of a stream what came before its first heartbeat."""
    query = {"after": "0-0"} if path.endswith("notifications") else {}
    request = live.build_request(method, path, json=body, params=query, headers=who)
    if not who["authorization"]:
        del request.headers["authorization"]
    answer = await live.send(request, stream=True)
    told = ""
    try:
        async with asyncio.timeout(5):
            async for text in answer.aiter_text():
                told += text
                if ": heartbeat" in told:
                    break
    finally:
        await answer.aclose()
    return answer.status_code, told


async def test_who_may_not_read_a_type_is_told_nothing_of_it_by_any_route(live, conformance, house):
    described = {(method, path) for path, method in conformance.operations()}
    assert described - ROUTES.keys() == set(), "these routes need a row"
    assert ROUTES.keys() - described == set(), "these rows have no route"

    rows = [*ROUTES.items(), *((("get", path), row) for path, row in NOT_DESCRIBED.items())]
    for (method, path), expected in rows:
        body = BODIES.get(path, {}) if method in ("post", "put", "patch") else None
        answers = [await asked(live, method, at(path, house["ids"]), body, who) for who in house["who"]]
        told = dict(zip(WHO, [status for status, _ in answers], strict=True))
        assert told == dict(zip(WHO, expected, strict=True)), f"{method} {path}"
        for who, (status, text) in zip(WHO[:3], answers[:3], strict=True):
            assert status >= 300 or HIDDEN not in text, (
                f"{method} {path} tells {who} of what is hidden: {text[:500]}"
            )
        if expected in (LISTED, FOUND, KEYS_FOUND) and path not in OF_A_KEY | EMPTY:
            assert HIDDEN in answers[4][1], (
                f"{method} {path} tells not even a reader: there was nothing to hide"
            )
