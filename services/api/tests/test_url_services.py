"""A worker that is only a URL, at the door: all or nothing, secrets that overlap, and whose it is."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError
from streammesh.webhooks.seal import Seal
from streammesh.webhooks.signature import key_of
from streammesh.webhooks.url_workers import (
    UrlSubscription,
    UrlWorker,
    read_url_worker,
    result_token,
    store_url_worker,
)

from services.api.settings import ApiSettings
from services.api.tests.expectations import assert_problem

AT = "/v1/services/billing"
BODY = {
    "url": "https://billing.example/",
    "subscriptions": [{"type": "bill.asked", "where": "data.total > 1"}],
}


async def test_a_service_whose_manifest_redis_refuses_leaves_nothing(api, mesh_redis, mesh_keys):
    await mesh_redis.set(mesh_keys.manifests_version(), "no number")
    worker = UrlWorker("billing", "https://billing.example/", (UrlSubscription("bill.asked", "handle"),))
    with pytest.raises(ResponseError, match="not an integer"):
        await store_url_worker(mesh_redis, mesh_keys, "billing", worker, b"")
    assert not await mesh_redis.hexists(mesh_keys.url_workers(), "billing")
    assert not await mesh_redis.hexists(mesh_keys.manifests(), "billing")
    await mesh_redis.delete(mesh_keys.manifests_version())
    assert (await api.put(AT, json=BODY)).json()["secret"].startswith("whsec_")
    assert await mesh_redis.hexists(mesh_keys.manifests(), "billing")


async def test_each_secret_stays_valid_for_its_day_and_a_sixth_is_refused(api, mesh_redis, mesh_keys):
    made = [(await api.put(AT, json=BODY)).json()["secret"]]
    for _ in range(4):
        made.insert(0, (await api.put(AT, json={**BODY, "new_secret": True})).json()["secret"])
    worker, raw = await read_url_worker(mesh_redis, mesh_keys, "billing")
    assert worker and [one.text for one in worker.secrets] == made and worker.secrets[0].until_ms is None
    assert_problem(await api.put(AT, json={**BODY, "new_secret": True}), 429, "quota-exceeded")
    assert (await read_url_worker(mesh_redis, mesh_keys, "billing"))[1] == raw
    assert (await api.put(AT, json=BODY)).json()["secrets"] == 5


async def test_a_wrong_expression_of_a_subscription_is_refused_with_its_place(api):
    wrong = {**BODY, "subscriptions": [{"type": "bill.asked", "where": "data.total ="}]}
    answer = await api.put(AT, json=wrong)
    assert_problem(answer, 422, "invalid-request")
    assert "character 12" in answer.text


@pytest.mark.parametrize("overlap", ["1h", "0s"])
async def test_the_secrets_of_a_webhook_overlap_and_with_none_the_old_ones_end(api, overlap):
    webhook = (await api.post("/v1/webhooks", json={"url": "https://shop.example/"})).json()
    at = f"/v1/webhooks/{webhook['id']}"
    for _ in range(2):
        await api.post(f"{at}/secret", json={"overlap": "1h"})
    await api.post(f"{at}/secret", json={"overlap": overlap})
    assert (await api.get(at)).json()["secrets"] == (4 if overlap == "1h" else 1)


async def test_with_a_key_no_secret_lies_readable_in_redis_and_a_results_token_counts(
    api, mesh, mesh_redis, mesh_keys, monkeypatch
):
    seal = Seal([b"k" * 32])
    monkeypatch.setattr(ApiSettings, "seal", seal)
    hook = (await api.post("/v1/webhooks", json={"url": "https://shop.example/hook"})).json()
    turned = (await api.post(f"/v1/webhooks/{hook['id']}/secret", json={})).json()
    secret = (await api.put(AT, json=BODY)).json()["secret"]
    kept = await mesh_redis.hvals(mesh_keys.webhooks()) + await mesh_redis.hvals(mesh_keys.url_workers())

    for shown in (hook["secret"], turned["secret"], secret):
        assert shown.startswith("whsec_") and shown.encode() not in b"".join(kept)
    await api.post("/v1/events", json={"type": "bill.asked", "data": {"total": 2}})
    (task,) = await mesh.dispatch("bill", AT.rpartition("/")[2])
    await mesh.start(task)
    token = result_token(key_of(secret), task.ref.task_id)
    at, said = f"/v1/tasks/{task.ref.task_id}/result", {"result": 1}
    assert (await api.post(at, json=said, headers={"streammesh-result-token": token})).status_code == 202
