"""Reports and uploads belong to the key that made them, and the mesh's own operations are a scope of their own."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from services.api.tests.expectations import assert_problem
from services.api.tests.test_reports import ASKED, CSV, FORM, PDF, finish


@pytest.fixture
def folder(store_settings) -> Path:
    return Path(store_settings.store_url)


class TestOperations:
    ASKED: ClassVar = {"kind": "operations", "period": {"last": "24h"}}

    async def test_the_meshs_own_operations_need_no_source(self, api, mesh_redis, mesh_keys):
        answer = await api.post("/v1/reports", json=self.ASKED)

        assert (answer.status_code, answer.json()["type"]) == (202, "operations.report_requested")
        assert await mesh_redis.xlen(mesh_keys.events("operations")) == 1
        assert (await api.get(answer.json()["links"]["report"])).json()["state"] == "queued"

    async def test_a_key_that_may_ask_for_reports_may_not_ask_for_them(
        self, api, make_key, mesh_redis, mesh_keys
    ):
        key = await make_key("narrow", publish=["report.*"], subscribe=["report.*"])
        headers = {"authorization": f"Bearer {key}"}

        assert_problem(await api.post("/v1/reports", json=self.ASKED, headers=headers), 403, "forbidden")
        assert (await api.post("/v1/reports", json=ASKED, headers=headers)).status_code == 202
        assert not await mesh_redis.exists(mesh_keys.events("operations"))


class TestBorders:
    """Reports and uploads belong to the key that made them."""

    @pytest.fixture
    async def other(self, make_key):
        return {
            "authorization": f"Bearer {await make_key('other', publish=['report.*'], subscribe=['report.*'])}"
        }

    async def test_another_keys_report_is_not_there(self, api, folder, other):
        path = (await api.post("/v1/reports", json={**ASKED, "report_id": "mine"})).json()["links"]["report"]
        before = [await api.get(path, headers=other), await api.get(f"{path}.pdf", headers=other)]
        finish(folder, "mine")
        after = [await api.get(path, headers=other), await api.get(f"{path}.pdf", headers=other)]

        unknown = assert_problem(await api.get("/v1/reports/none", headers=other), 404, "not-found")
        for answer in (*before, *after):
            assert assert_problem(answer, 404, "not-found")["detail"] == unknown["detail"].replace(
                "none", "mine"
            )
        assert (await api.get(f"{path}.pdf")).content == PDF

    async def test_ones_own_report_is_there_with_a_narrow_key(self, api, folder, other):
        finish(folder, "theirs", source="other")

        assert (await api.get("/v1/reports/theirs", headers=other)).json()["state"] == "ready"
        assert (await api.get("/v1/reports/theirs.pdf", headers=other)).content == PDF

    async def test_uploads_of_two_keys_under_one_id_are_two(self, api, folder, other):
        form = {**FORM, "report_id": "same"}
        for headers, content in (({}, CSV), (other, CSV + "CH,1\n")):
            files = {"file": ("a.csv", content, "text/csv")}
            assert (await api.post("/v1/reports", data=form, files=files, headers=headers)).status_code == 202

        assert (folder / "uploads/shop/same.csv").read_text() == CSV
        assert (folder / "uploads/other/same.csv").read_text() == CSV + "CH,1\n"

    async def test_a_key_keeps_no_more_uploads_than_its_quota_and_others_go_on(
        self, api, api_settings, other
    ):
        object.__setattr__(api_settings, "upload_quota_files", 2)

        async def send(report_id, **headers):
            files = {"file": ("a.csv", CSV, "text/csv")}
            form = {**FORM, "report_id": report_id}
            return await api.post("/v1/reports", data=form, files=files, headers=headers)

        kept = [await send("one"), await send("two"), await send("two")]
        refused = await send("three")

        assert [answer.status_code for answer in kept] == [202] * 3
        assert_problem(refused, 429, "quota-exceeded")
        assert (await send("three", **other)).status_code == 202
        object.__setattr__(api_settings, "upload_quota_files", 9)
        object.__setattr__(api_settings, "upload_quota_bytes", 3 * len(CSV) - 1)
        assert_problem(await send("four"), 429, "quota-exceeded")

    async def test_reports_are_mailed_only_to_whom_the_operator_allows(self, api, api_settings):
        object.__setattr__(api_settings, "recipients", ["*@example.com"])
        object.__setattr__(api_settings, "local_domains", True)

        allowed = await api.post("/v1/reports", json={**ASKED, "recipient": "Ann@EXAMPLE.com"})
        refused = await api.post("/v1/reports", json={**ASKED, "recipient": "ann@mailhost"})

        assert allowed.status_code == 202
        assert "EMAIL_RECIPIENTS" in assert_problem(refused, 422, "invalid-request")["errors"][0]["detail"]
