"""`/v1/reports`: asked for in JSON or with a file, followed, and fetched whole or in parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streammesh.events import envelope

from services.api.report_documents import ReportState
from services.api.report_store import ReportStore
from services.api.tests.expectations import assert_problem

FORM = {"title": "Sales", "group_by": "country", "measure": "total"}
CSV = "country,total\nDE,3\nAT,4\n"
ASKED = {"title": "Sales", "csv": CSV, "group_by": "country", "measure": "total"}
PDF = b"%PDF-1.7\n" + bytes(range(256)) * 40


async def requested(mesh_redis, mesh_keys):
    ((_, fields),) = await mesh_redis.xrange(mesh_keys.events("report"))
    return envelope.from_json(fields[b"e"])


@pytest.fixture
def folder(store_settings) -> Path:
    return Path(store_settings.store_url)


def finish(folder: Path, report_id: str, content: bytes = PDF, source: str = "shop") -> None:
    """Put a report into the store, as the worker does."""
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    (folder / "reports" / f"{report_id}.pdf").write_bytes(content)
    metadata = {
        "report_id": report_id,
        "title": "Sales",
        "pages": 3,
        "rows": 2,
        "recipient": "ann@example.com",
        "event": [source, report_id],
    }
    (folder / "reports" / f"{report_id}.json").write_text(json.dumps(metadata))


async def test_a_report_is_asked_for_with_its_id_as_the_events(api, mesh_redis, mesh_keys):
    answer = await api.post("/v1/reports", json={**ASKED, "note": "kept"})

    event, body = await requested(mesh_redis, mesh_keys), answer.json()
    assert (answer.status_code, body["type"]) == (202, "report.requested")
    assert body["id"] == body["report_id"] == event.id == event.data["report_id"]
    assert event.data == {**ASKED, "note": "kept", "report_id": event.id}
    assert event.subject == f"report/{event.id}"
    assert body["links"]["report"] == f"/v1/reports/{event.id}"
    assert (await api.get(body["links"]["self"])).json()["id"] == event.id


async def test_a_report_id_of_ones_own_is_taken_once(api):
    first = await api.post("/v1/reports", json={**ASKED, "report_id": "sales-1"})
    again = await api.post("/v1/reports", json={**ASKED, "report_id": "sales-1"})
    other = await api.post("/v1/reports", json={**ASKED, "report_id": "sales-1", "title": "Other"})

    assert [first.json()["duplicate"], again.json()["duplicate"]] == [False, True]
    assert_problem(other, 409, "event-conflict")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"report_id": "../x"}, "/report_id"),
        ({"report_id": "a\nb"}, "/report_id"),
        ({"recipient": "a@example.com\r\nBcc: b@example.com"}, "/recipient"),
        ({"recipient": "a@b@c"}, "/recipient"),
        ({"recipient": "a@localhost"}, "/recipient"),
        ({"title": ""}, "/title"),
        ({"title": "a\u2028b"}, "/title"),
        ({"title": "a\x00b"}, "/title"),
        ({"title": "a\ttab"}, "/title"),
        *(
            ({"title": title, "recipient": "a@example.com"}, "")
            for title in (
                "Click https://x.y",
                "see www.x",
                "Win at evil.example",
                "evil.\u200bexample",
                "EVIL.COM!",
                "a@b",
                "(evil.co.uk)",
                "bücher.рф",
                "xn--a.xn--b",
            )
        ),
        ({"kind": "other"}, "/kind"),
        ({"aggregate": "median"}, "/aggregate"),
        ({"csv": None}, ""),
        ({"rows": [{"a": 1}]}, ""),
        ({"group_by": None}, ""),
    ],
    ids=str,
)
async def test_what_no_report_can_be_made_of_is_refused_at_the_door(
    api, wrong, pointer, mesh_redis, mesh_keys
):
    document = assert_problem(await api.post("/v1/reports", json={**ASKED, **wrong}), 422, "invalid-request")

    assert [error["pointer"] for error in document["errors"]] == [pointer]
    assert not await mesh_redis.exists(mesh_keys.events("report"))


@pytest.mark.parametrize(
    "title",
    [
        "Q1.2026",
        "v1.20",
        "3.5 % mehr",
        "J. R. R. Tolkien",
        "Sales e.g. 2026",
        "売上。報告",
        "Ende. Anfang",
        "a/b: c & d",
    ],
)
async def test_a_title_with_dots_that_are_no_domain_goes_into_mail(api, title):
    asked = {**ASKED, "title": title, "recipient": " ann..lee@docomo.ne.jp "}

    assert (await api.post("/v1/reports", json=asked)).status_code == 202


async def test_a_title_that_goes_into_no_mail_may_name_a_domain(api):
    assert (
        await api.post("/v1/reports", json={**ASKED, "title": "Visits of example.com"})
    ).status_code == 202


class TestUploads:
    @pytest.mark.parametrize(
        ("name", "media", "suffix"),
        [
            ("sales.csv", "text/csv", "csv"),
            ("x", "application/json", "json"),
            ("s.JSON", "text/plain", "json"),
        ],
    )
    async def test_a_file_is_kept_in_the_store_and_named_in_the_event(
        self, api, folder, mesh_redis, mesh_keys, name, media, suffix
    ):
        answer = await api.post("/v1/reports", data=FORM, files={"file": (name, CSV, media)})

        event = await requested(mesh_redis, mesh_keys)
        assert answer.status_code == 202, answer.text
        assert event.data["source"] == {"name": name, "object": f"uploads/shop/{event.id}.{suffix}"}
        assert event.data["group_by"] == "country"
        assert (folder / event.data["source"]["object"]).read_text() == CSV

    async def test_how_the_file_is_to_be_read_goes_into_its_source(self, api, mesh_redis, mesh_keys):
        form = {**FORM, "delimiter": ";", "decimal": ","}
        files = {"file": ("a.csv", CSV, "text/csv; charset=Shift_JIS")}

        assert (await api.post("/v1/reports", data=form, files=files)).status_code == 202
        source = (await requested(mesh_redis, mesh_keys)).data["source"]
        assert (source["delimiter"], source["decimal"], source["encoding"]) == (";", ",", "Shift_JIS")

    async def test_the_same_upload_again_is_a_duplicate_and_another_one_a_conflict(self, api, folder):
        def send(content):
            form = {**FORM, "report_id": "sales-1"}
            return api.post("/v1/reports", data=form, files={"file": ("sales.csv", content, "text/csv")})

        first, again, other = await send(CSV), await send(CSV), await send(CSV + "CH,9\n")

        assert [first.json()["duplicate"], again.json()["duplicate"]] == [False, True]
        assert_problem(other, 409, "upload-conflict")
        assert (folder / "uploads/shop/sales-1.csv").read_text() == CSV

    @pytest.mark.parametrize(
        ("form", "file", "status", "kind"),
        [
            ({}, ("a.csv", CSV, "text/csv"), 422, "invalid-request"),
            (FORM, ("a.exe", "MZ", "application/octet-stream"), 415, "unsupported-media-type"),
            (FORM, ("a.csv", "", "text/csv"), 422, "invalid-request"),
            ({**FORM, "report_id": "../../x"}, ("a.csv", CSV, "text/csv"), 422, "invalid-request"),
            ({**FORM, "kind": "operations"}, None, 422, "invalid-request"),
            ({**FORM, "title": "x" * 20_000}, ("a.csv", CSV, "text/csv"), 400, "malformed-body"),
            (
                {**FORM, **{f"f{i}": "x" for i in range(40)}},
                ("a.csv", CSV, "text/csv"),
                400,
                "malformed-body",
            ),
        ],
    )
    async def test_a_form_that_is_not_right_is_refused_and_nothing_is_kept(
        self, api, folder, form, file, status, kind
    ):
        files = {"file": file} if file else {"other": ("a.csv", CSV, "text/csv")}

        assert_problem(await api.post("/v1/reports", data=form, files=files), status, kind)
        assert not (folder / "uploads").exists()

    @pytest.mark.parametrize(
        "body",
        [b"", b"--x", b"--x\r\n\r\n", b"\x00" * 100, b'--x\r\nContent-Disposition: form-data; name="file"'],
    )
    async def test_a_broken_form_is_refused(self, api, body):
        headers = {"content-type": "multipart/form-data; boundary=x"}

        answer = await api.post("/v1/reports", content=body, headers=headers)
        bare = await api.post("/v1/reports", content=body, headers={"content-type": "multipart/form-data"})

        for one in (answer, bare):
            assert one.status_code in (400, 422)
            assert one.headers["content-type"] == "application/problem+json"

    async def test_a_file_that_is_too_large_is_refused_while_it_arrives(self, api, api_settings, folder):
        taken = 0

        async def endless():
            nonlocal taken
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
            while True:
                taken += 1_048_576
                yield b"a" * 1_048_576

        headers = {"content-type": "multipart/form-data; boundary=x"}
        answer = await api.post("/v1/reports", content=endless(), headers=headers)

        assert_problem(answer, 413, "body-too-large")
        assert taken < api_settings.max_upload_bytes + 4_000_000


class TestState:
    async def test_it_follows_the_task_and_becomes_ready(self, api, mesh, folder):
        await mesh.subscribe("report_worker", "report.requested")
        path = (await api.post("/v1/reports", json=ASKED)).json()["links"]["report"]

        async def state():
            answer = await api.get(path)
            assert answer.status_code == 200, answer.text
            ReportState.model_validate(answer.json())
            return answer.json()

        waiting = await state()
        (task,) = await mesh.dispatch("report", "report_worker")
        queued = await state()
        await mesh.start(task)
        await mesh.progress(task, 0.45, "part 3 of 5 measured")
        running = await state()
        finish(folder, path.rpartition("/")[2])
        ready = await state()

        assert [found["state"] for found in (waiting, queued, running, ready)] == [
            "queued",
            "queued",
            "running",
            "ready",
        ]
        assert (running["detail"], running["progress"]["progress"]) == ("part 3 of 5 measured", 0.45)
        assert ready["report"]["pages"] == 3 and "recipient" not in ready["report"]

    async def test_it_is_never_failed_while_it_is_ready(self, api, mesh, folder, monkeypatch):
        """The worker ends between the look into the store and the look at its task."""
        await mesh.subscribe("report_worker", "report.requested")
        links = (await api.post("/v1/reports", json=ASKED)).json()["links"]
        (task,) = await mesh.dispatch("report", "report_worker")
        await mesh.start(task)
        await mesh.succeed(task, {})
        real, looks = ReportStore.metadata, []

        async def metadata(store, report_id):
            looks.append(report_id)
            found = await real(store, report_id)
            finish(folder, report_id)
            return found

        monkeypatch.setattr(ReportStore, "metadata", metadata)
        assert (await api.get(links["report"])).json()["state"] == "ready"
        assert len(looks) == 2

    async def test_a_report_that_was_removed_is_gone_and_not_failed(self, api, mesh):
        await mesh.subscribe("report_worker", "report.requested")
        links = (await api.post("/v1/reports", json=ASKED)).json()["links"]
        (task,) = await mesh.dispatch("report", "report_worker")
        await mesh.start(task)
        await mesh.succeed(task, {})

        assert (await api.get(links["report"])).json()["state"] == "removed"
        assert_problem(await api.get(links["pdf"]), 410, "report-removed")

    async def test_a_failed_report_says_why(self, api, mesh):
        await mesh.subscribe("report_worker", "report.requested")
        links = (await api.post("/v1/reports", json=ASKED)).json()["links"]
        (task,) = await mesh.dispatch("report", "report_worker")
        await mesh.start(task)
        await mesh.fail(task, "there is no column 'country'")

        found = (await api.get(links["report"])).json()

        assert (found["state"], found["detail"]) == ("failed", "there is no column 'country'")
        document = assert_problem(await api.get(links["pdf"]), 409, "report-failed")
        assert "no column" in document["detail"]

    async def test_a_report_that_is_not_ready_is_a_conflict_and_not_an_empty_file(self, api):
        links = (await api.post("/v1/reports", json=ASKED)).json()["links"]

        answer = await api.get(links["pdf"])

        assert assert_problem(answer, 409, "report-not-ready")["state"] == "queued"
        assert answer.headers["retry-after"]

    @pytest.mark.parametrize("odd", ["nothing", "..%2F..%2Fetc", "%00", "x" * 65, "a.b", "a%0d%0ab", ".pdf"])
    async def test_an_unknown_report_is_not_found(self, api, odd):
        assert_problem(await api.get(f"/v1/reports/{odd}"), 404, "not-found")
        assert_problem(await api.get(f"/v1/reports/{odd}.pdf"), 404, "not-found")

    async def test_another_event_with_that_id_is_no_report(self, api):
        sent = (await api.post("/v1/events", json={"type": "order.placed"})).json()

        assert_problem(await api.get(f"/v1/reports/{sent['id']}"), 404, "not-found")

    async def test_a_key_without_the_scope_sees_no_report(self, api, folder, make_key):
        finish(folder, "sales-1")
        headers = {"authorization": f"Bearer {await make_key('narrow', subscribe=['order.*'])}"}

        for path in ("/v1/reports/sales-1", "/v1/reports/sales-1.pdf"):
            assert_problem(await api.get(path, headers=headers), 404, "not-found")


class TestFile:
    @pytest.fixture
    def path(self, folder):
        finish(folder, "sales-1")
        return "/v1/reports/sales-1.pdf"

    async def test_it_is_a_pdf_to_be_saved(self, api, path):
        answer = await api.get(path)

        assert (answer.status_code, answer.content) == (200, PDF)
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["content-disposition"] == 'attachment; filename="report-sales-1.pdf"'
        assert answer.headers["content-length"] == str(len(PDF))
        assert answer.headers["accept-ranges"] == "bytes" and answer.headers["etag"].startswith('"')

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ("bytes=0-3", PDF[:4]),
            ("bytes=10-", PDF[10:]),
            ("bytes=-5", PDF[-5:]),
            ("bytes=0-999999999", PDF),
            ("bytes=-999999999", PDF),
            (f"bytes={len(PDF) - 1}-", PDF[-1:]),
        ],
    )
    async def test_a_part_is_sent_when_one_is_asked_for(self, api, path, asked, expected):
        answer = await api.get(path, headers={"range": asked})

        assert (answer.status_code, answer.content) == (206, expected)
        first, last = answer.headers["content-range"].removeprefix("bytes ").partition("/")[0].split("-")
        assert PDF[int(first) : int(last) + 1] == expected

    @pytest.mark.parametrize("asked", ["bytes=999999999-", f"bytes={len(PDF)}-", "bytes=-0"])
    async def test_a_part_that_lies_outside_is_refused(self, api, path, asked):
        answer = await api.get(path, headers={"range": asked})

        assert_problem(answer, 416, "range-not-satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(PDF)}"

    @pytest.mark.parametrize(
        "asked", ["bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "bytes=", "bytes=-", "²"]
    )
    async def test_what_is_not_understood_gets_the_whole_file(self, api, path, asked):
        answer = await api.get(path, headers={"range": asked.encode()})

        assert (answer.status_code, answer.content) == (200, PDF)

    async def test_what_is_known_already_is_not_sent_again(self, api, path, folder):
        first = await api.get(path)
        tag, date = first.headers["etag"], first.headers["last-modified"]

        known = [
            await api.get(path, headers=headers)
            for headers in (
                {"if-none-match": tag},
                {"if-none-match": f'"other", W/{tag}'},
                {"if-none-match": "*"},
                {"if-modified-since": date},
            )
        ]
        same = await api.get(path, headers={"range": "bytes=0-3", "if-range": tag})
        finish(folder, "sales-1", PDF + b"more")
        changed = await api.get(path, headers={"if-none-match": tag})
        other = await api.get(path, headers={"range": "bytes=0-3", "if-range": tag})

        assert [(answer.status_code, answer.content) for answer in known] == [(304, b"")] * 4
        assert (same.status_code, changed.status_code, other.status_code) == (206, 200, 200)
        assert other.content == PDF + b"more"
