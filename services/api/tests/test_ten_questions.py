"""Ten questions of the night, asked over the API; and the runbook's commands that answer them."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
from streammesh.cli.commands import app
from streammesh.events.envelope import Event
from streammesh.redisio.heartbeat import process_name
from typer.testing import CliRunner

from services.api import status_cache
from services.api.tests.expectations import assert_problem

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook.md"
SUBJECT, STORY, SCHEDULE = "customer/42", "story-1", "nightly"
WITHIN_SECONDS = 5.0  # of the thirty that a question may take


@pytest.fixture(autouse=True)
def always_look(monkeypatch):
    monkeypatch.setattr(status_cache, "FRESH_SECONDS", 0.0)


@pytest.fixture
async def night(live, mesh, mesh_redis, mesh_keys):
    """A mesh in trouble: one service works, one is without workers, one is paused; some of it failed."""
    now = time.time() * 1000
    for role in ("dispatcher", "mail", "other"):
        await mesh_redis.zadd(mesh_keys.alive(role), {process_name(role): now})
    await mesh.subscribe("mail", "order.placed")
    await mesh.subscribe("other", "order.paid")
    await mesh.subscribe("idle", "order.placed", where={"amount": {">": 100}})

    async def publish(event_id: str, event_type: str, **more) -> None:
        sent = await live.post(
            "/v1/events", json={"id": event_id, "type": event_type, "source": "shop", **more}
        )
        assert sent.status_code == 202, sent.text

    await publish(STORY, "order.placed", subject=SUBJECT, data={"amount": 7})
    [task] = await mesh.dispatch("order", "mail")
    await mesh.start(task)
    paid = Event(
        id="paid-1",
        source="mail",
        type="order.paid",
        time="2026-11-27T00:00:00Z",
        subject=SUBJECT,
        data={},
        extensions={"correlationid": STORY},
    )
    await mesh.succeed(task, {"sent": True}, [paid])
    for n in range(3):
        await publish(f"bad-{n}", "order.placed", data={"amount": 1})
    for failing in await mesh.dispatch("order", "mail"):
        await mesh.start(failing)
        await mesh.fail(failing, f"refused by the mail server, try {failing.ref.event.id}")
    await publish("late-1", "order.placed", data={"amount": 1})
    [running] = await mesh.dispatch("order", "mail")
    await publish("late-2", "order.placed", data={"amount": 1})  # a round trip later, so in a later ms
    await mesh.dispatch("order", "mail")
    await mesh.start(running)
    await publish("big-1", "order.placed", data={"amount": 500})
    await publish("unwanted-1", "nobody.wants")
    body = {"cron": "0 3 * * *", "event": {"type": "report.requested", "data": {}}}
    assert (await live.put(f"/v1/schedules/{SCHEDULE}", json=body)).status_code == 200
    assert (await live.post(f"/v1/schedules/{SCHEDULE}/disable")).status_code == 200
    return running


async def told(live, path, **query):
    answer = await live.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_ten_questions_have_answers_over_the_api(live, mesh, mesh_redis, mesh_keys, night):
    # Why is this event late? Which service lags?
    late = {one["subscription"]: one for one in (await told(live, "/v1/events/big-1"))["not_run"]}
    assert late["mail.handle"]["why"] == "in-line" and "handed over" in late["mail.handle"]["detail"]
    standings = {one["service"]: one for one in (await told(live, "/v1/services"))["services"]}
    assert standings["idle"]["lag"] > 0 and standings["idle"]["workers"] == 0

    # What is oldest? In a stream as well as in a queue.
    oldest = (await told(live, "/v1/tasks", order="oldest"))["tasks"]
    assert [one["event"]["id"] for one in oldest] == ["late-1", "late-2"]
    detail = await told(live, "/v1/services/mail")
    assert (detail["oldest"]["where"], detail["oldest"]["event"]["id"]) == ("queue", "late-2")
    assert detail["oldest"]["task"]["id"] == oldest[1]["id"]
    idle = (await told(live, "/v1/services/idle"))["oldest"]
    assert (idle["where"], idle["event"]["id"], idle["task"]) == ("stream", STORY, None)

    # Which worker holds what?
    [held] = detail["holding"]
    assert [one["id"] for one in held["running"]] == [night.ref.task_id]
    assert (await told(live, "/v1/tasks", worker="worker@test:1"))["tasks"][0]["id"] == night.ref.task_id

    # Why did nothing run?
    [missed] = (await told(live, f"/v1/events/{STORY}"))["not_delivered"]
    assert missed["subscription"] == "idle.handle" and "where" in missed["reason"]
    unwanted = await told(live, "/v1/events/unwanted-1")
    assert (unwanted["state"], unwanted["deliveries"]) == ("waiting", [])

    # What failed most today? Each class once, whatever ids the reasons hold.
    [group] = (await told(live, "/v1/failures"))["failures"]
    assert (group["task"], group["kind"], group["count"]) == ("mail.handle", "Reject", 3)
    assert "refused by the mail server" in group["newest"]["reason"]
    assert (await told(live, "/v1/failures", service="other"))["failures"] == []
    assert (await told(live, "/v1/failures", since="2999-01-01T00:00:00Z"))["counted"] == 0

    # Who changed this schedule?
    actions = (await told(live, "/v1/audit", about=SCHEDULE))["actions"]
    assert [(one["actor"], one["action"]) for one in actions] == [
        ("shop", "disable_schedule"),
        ("shop", "put_schedule"),
    ]
    assert (await told(live, "/v1/audit", about="another"))["actions"] == []

    # What did this customer's event lead to?
    found = await told(live, "/v1/events", subject=SUBJECT)
    assert {one["type"] for one in found["events"]} == {"order.placed", "order.paid"}
    story = await told(live, "/v1/events", correlation=STORY, standing="true")
    assert {(one["type"]) for one in story["events"]} == {"order.placed", "order.paid"}


async def test_when_the_backlog_will_be_gone_and_redis_full_is_told_by_measured_rates(
    live, mesh, mesh_redis, mesh_keys
):
    await mesh.subscribe("mail", "order.placed")
    for n in range(6):
        await live.post("/v1/events", json={"id": f"e{n}", "type": "order.placed", "source": "shop"})
    tasks = await mesh.dispatch("order", "mail")
    first = (await told(live, "/v1/services/mail"))["gone_in_seconds"]
    asked = asyncio.create_task(told(live, "/v1/services/mail", over="1s"))
    for task in tasks[:4]:
        await mesh.start(task)
        await mesh.succeed(task)
    then = await asked
    assert first is None and then["queued"] == 2
    assert 2.0 < then["falls_per_second"] < 6.0
    assert then["gone_in_seconds"] == pytest.approx(2 / then["falls_per_second"], abs=0.1)

    await mesh_redis.config_set("maxmemory", 1 << 30)
    try:
        await mesh_redis.set("filler", "x" * 8_000_000)
        redis = (await told(live, "/v1/status"))["redis"]
        assert redis["refused_at"] == (1 << 30) * 85 // 100
        assert redis["grows_per_second"] > 1e5 and 0 < redis["full_in_seconds"] < 9_000
    finally:
        await mesh_redis.config_set("maxmemory", 0)
        await mesh_redis.delete("filler")
    for wrong in ("11s", "x", "-1s"):
        assert_problem(await live.get("/v1/status", params={"over": wrong}), 400, "malformed-request")


async def test_who_may_not_read_everything_is_told_of_its_own_failures_only(live, night, make_key):
    narrow = {"authorization": f"Bearer {await make_key('narrow', subscribe=['parcel.*'])}"}
    answer = await live.get("/v1/failures", headers=narrow)
    assert answer.json()["failures"] == []
    assert_problem(await live.get("/v1/services/mail", headers=narrow), 403, "forbidden")
    assert_problem(await live.get("/v1/services/nobody"), 404, "not-found")
    ended = await live.get("/v1/tasks", params={"order": "oldest", "state": "ended"})
    assert_problem(ended, 422, "invalid-request")


async def test_the_commands_of_the_runbook_answer_each_question(live, night, admin, monkeypatch):
    page = RUNBOOK.read_text("utf-8")
    section = page.partition("## Ten questions of the night")[2].partition("\n## ")[0]
    questions = section.split("\n### ")[1:]
    assert len(questions) == 10
    monkeypatch.setenv("STREAMMESH_URL", str(live.base_url))
    monkeypatch.setenv("STREAMMESH_KEY", admin)
    given = {"EVENT": STORY, "SERVICE": "mail", "SCHEDULE": SCHEDULE, "SUBJECT": SUBJECT}
    for question in questions:
        commands = re.findall(r"^\$ streammesh (.+)$", question, re.MULTILINE)
        assert commands, question
        for command in commands:
            words = [given.get(word, word) for word in command.split()]
            began = time.monotonic()
            done = await asyncio.to_thread(CliRunner().invoke, app, words)
            assert done.exit_code in (0, 4, 5) and done.stdout.strip(), (command, done.output)
            assert time.monotonic() - began < WITHIN_SECONDS, command


async def test_one_command_says_of_each_subscription_why_it_did_not_run(live, night, admin, monkeypatch):
    monkeypatch.setenv("STREAMMESH_URL", str(live.base_url))
    monkeypatch.setenv("STREAMMESH_KEY", admin)
    shown = {}
    for event_id in (STORY, "late-2", "big-1", "unwanted-1"):
        done = await asyncio.to_thread(CliRunner().invoke, app, ["event", event_id])
        assert done.exit_code == 0, done.output
        shown[event_id] = " ".join(done.stdout.split())

    assert "not to idle.handle: its `where` filter does not fit" in shown[STORY]
    assert "not yet mail.handle: " in shown["late-2"]
    assert "not yet mail.handle: " in shown["big-1"] and "handed over" in shown["big-1"]
    assert "waiting: " in shown["unwanted-1"]
