"""`/v1/schedules`: looked at, stored, switched off and on, run now, deleted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from streammesh import lua
from streammesh.schedules import from_json, parse_entry, plan_sync
from streammesh.schedules.store import read_call, store_call

from services.api.schedule_documents import ScheduleList, ScheduleState
from services.api.tests.expectations import assert_problem

DAILY = {"cron": "0 9 * * *", "timezone": "Asia/Tokyo", "event": {"type": "report.due", "data": {"n": 1}}}


async def put(api, name="daily", **changes):
    answer = await api.put(f"/v1/schedules/{name}", json={**DAILY, **changes})
    assert answer.status_code == 200, answer.text
    ScheduleState.model_validate(answer.json())
    return answer.json()


@pytest.fixture
def sync_file(mesh_redis, mesh_keys):
    """What the scheduler does with its file."""

    async def synced(*tables):
        wanted = [parse_entry({**table, "origin": "file"}) for table in tables]
        now, stored = await lua.run(mesh_redis, read_call(mesh_keys))
        changes = plan_sync(stored, wanted, now)
        if changes:
            await lua.run(mesh_redis, store_call(mesh_keys, changes))

    return synced


async def test_many_schedules_come_page_by_page_and_each_once(api, mesh_redis, mesh_keys):
    for number in range(7):
        await put(api, f"s{number}")
    await mesh_redis.hset(mesh_keys.schedules(), b"\xff", b"garbage")
    names, cursor = [], None
    for _ in range(4):
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/v1/schedules", params=query)).json()
        names += [one["name"] for one in page["schedules"]]
        cursor = page["next"]
        if cursor is None:
            break
    whole = (await api.get("/v1/schedules")).json()

    assert cursor is None and names == [one["name"] for one in whole["schedules"]] and whole["next"] is None
    assert [name for name in names if name.startswith("s")] == [f"s{number}" for number in range(7)]
    assert_problem(await api.get("/v1/schedules", params={"cursor": "made-up"}), 422, "invalid-request")


async def test_a_stored_schedule_tells_its_next_ticks(api):
    stored = await put(api)

    assert (stored["origin"], stored["enabled"], stored["event"]["type"]) == ("api", True, "report.due")
    ticks = [datetime.fromisoformat(tick) for tick in stored["next"]]
    assert len(ticks) == 5 and all((tick.hour, tick.minute) == (0, 0) for tick in ticks)  # 09:00 in Tokyo
    assert ticks[0] > datetime.now(UTC) and ticks[1] - ticks[0] == timedelta(days=1)
    assert (await api.get("/v1/schedules/daily")).json() == stored
    listed = (await api.get("/v1/schedules")).json()
    ScheduleList.model_validate(listed)
    assert listed == {"schedules": [stored], "next": None}


async def test_other_data_keeps_the_place_and_other_times_begin_anew(api):
    first = await put(api, every="1h", cron=None)
    same = await put(api, every="1h", cron=None, event={"type": "report.due", "data": {"n": 2}})
    other = await put(api, every="2h", cron=None)

    assert same["next"] == first["next"] and same["event"]["data"] == {"n": 2}
    assert other["every_seconds"] == 7200


async def test_it_is_switched_off_and_on(api):
    await put(api)
    off = (await api.post("/v1/schedules/daily/disable")).json()
    again = (await api.post("/v1/schedules/daily/disable")).json()
    on = (await api.post("/v1/schedules/daily/enable")).json()

    assert (off["enabled"], off["next"]) == (False, []) and again == off
    assert on["enabled"] and len(on["next"]) == 5


async def test_a_tick_is_published_now_and_once_for_one_moment(api, mesh_redis, mesh_keys):
    stands = (await put(api, enabled=False))["next"]
    at = (datetime.now(UTC) - timedelta(hours=3)).isoformat()
    first = await api.post("/v1/schedules/daily/trigger", json={"at": at})
    second = await api.post("/v1/schedules/daily/trigger", json={"at": at})
    now = await api.post("/v1/schedules/daily/trigger")

    assert [a.status_code for a in (first, second, now)] == [202, 202, 202]
    assert first.json()["id"] == second.json()["id"] != now.json()["id"]
    assert [a.json()["duplicate"] for a in (first, second, now)] == [False, True, False]
    event = (await api.get(now.json()["links"]["self"])).json()["event"]
    assert (event["source"], event["type"], event["data"]["schedule"]) == ("scheduler", "report.due", "daily")
    assert (await api.get("/v1/schedules/daily")).json()["next"] == stands == []
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert_problem(await api.post("/v1/schedules/daily/trigger", json={"at": later}), 422, "invalid-request")


async def test_the_same_moment_with_another_content_is_a_conflict(api):
    at = "2026-01-01T00:00:00Z"
    await put(api)
    await api.post("/v1/schedules/daily/trigger", json={"at": at})
    await put(api, event={"type": "report.due", "data": {"n": 2}})

    assert_problem(await api.post("/v1/schedules/daily/trigger", json={"at": at}), 409, "event-conflict")


async def test_a_schedule_of_the_file_is_switched_off_for_good_and_given_back_by_deleting(api, sync_file):
    of_file = {"name": "check", "every": "30s", "event": {"type": "health.check"}}
    await sync_file(of_file)
    assert_problem(await api.delete("/v1/schedules/check"), 409, "schedule-of-file")
    assert (await api.post("/v1/schedules/check/disable")).json()["origin"] == "api"
    await sync_file(of_file)
    assert (await api.get("/v1/schedules/check")).json()["enabled"] is False  # the file does not switch it on

    assert (await api.delete("/v1/schedules/check")).status_code == 200
    assert_problem(await api.get("/v1/schedules/check"), 404, "not-found")
    await sync_file(of_file)
    assert (await api.get("/v1/schedules/check")).json()["origin"] == "file"


async def test_what_changes_at_the_same_time_is_not_lost(api, mesh_redis, mesh_keys):
    await put(api)
    answers = await asyncio.gather(
        *(api.post(f"/v1/schedules/daily/{'disable' if n % 2 else 'enable'}") for n in range(8)),
        *(api.put(f"/v1/schedules/s{n}", json=DAILY) for n in range(4)),
    )

    assert {answer.status_code for answer in answers} <= {200, 409}
    _, stored = await lua.run(mesh_redis, read_call(mesh_keys))
    assert sorted(stored) == ["daily", "s0", "s1", "s2", "s3"]
    assert (stored["daily"].stands_at is not None) == from_json(stored["daily"].raw).enabled


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"every": "1s"}, "give one of cron and every"),
        ({"cron": None}, "give one of cron and every"),
        ({"cron": None, "every": "1ms"}, "between 1s and 366d"),
        ({"timezone": "Mars/Base"}, "IANA"),
        ({"event": {"type": ""}}, "event"),
        ({"event": {"type": "a.b", "data": {"due_at": 1}}}, "filled in by the tick"),
        ({"name": "other"}, "is not set here"),
        ({"origin": "file"}, "is not set here"),
        ({"wat": 1}, "wat"),
    ],
)
async def test_what_is_no_schedule_is_refused_and_nothing_is_stored(api, changes, word):
    body = {name: value for name, value in {**DAILY, **changes}.items() if value is not None}
    document = assert_problem(await api.put("/v1/schedules/daily", json=body), 422, "invalid-request")
    assert word in document["detail"]
    assert (await api.get("/v1/schedules")).json()["schedules"] == []


async def test_what_is_broken_is_shown_and_can_be_written_over(api, mesh_redis, mesh_keys):
    await mesh_redis.hset(mesh_keys.schedules(), "daily", "garbage")
    found = (await api.get("/v1/schedules/daily")).json()
    ScheduleState.model_validate(found)

    assert found["broken"] and found["next"] == [] and found["event"] is None
    assert_problem(await api.post("/v1/schedules/daily/trigger"), 409, "schedule-broken")
    assert_problem(await api.post("/v1/schedules/daily/enable"), 404, "not-found")
    assert (await put(api))["broken"] is None


async def test_only_an_admin_key_changes_and_each_key_sees_its_own_types(api, make_key):
    await put(api)
    secret = await make_key("reader", subscribe=["order.*"], publish=["*"])
    headers = {"authorization": f"Bearer {secret}"}
    assert (await api.get("/v1/schedules", headers=headers)).json()["schedules"] == []
    assert_problem(await api.get("/v1/schedules/daily", headers=headers), 404, "not-found")
    for method, path in (
        ("PUT", "daily"),
        ("DELETE", "daily"),
        *(("POST", f"daily/{verb}") for verb in ("enable", "disable", "trigger")),
    ):
        answer = await api.request(method, f"/v1/schedules/{path}", json=DAILY, headers=headers)
        assert_problem(answer, 403, "forbidden")
    other = {"authorization": f"Bearer {await make_key('other', subscribe=['report.*'])}"}
    assert len((await api.get("/v1/schedules", headers=other)).json()["schedules"]) == 1


async def test_each_change_is_in_the_audit(api):
    await put(api)
    await api.post("/v1/schedules/daily/disable")
    await api.post("/v1/schedules/daily/trigger")
    await api.delete("/v1/schedules/daily")
    noted = (await api.get("/v1/audit")).json()["actions"]

    assert [one["action"] for one in noted] == [
        "delete_schedule", "trigger_schedule", "disable_schedule", "put_schedule",
    ]  # fmt: skip
    assert noted[-1]["said"]["cron"] == "0 9 * * *" and {one["about"] for one in noted} == {"daily"}


@pytest.mark.parametrize("name", ["No", "a/b", "x" * 65, "%00"])
async def test_a_name_that_no_schedule_can_have_is_refused(api, name):
    answer = await api.put(f"/v1/schedules/{name}", json=DAILY)
    assert answer.status_code in (404, 405, 422)
