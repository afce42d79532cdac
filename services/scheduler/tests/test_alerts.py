"""Alerts: what they say, when they are raised and by how many, how the webhook is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, cast

import orjson
import pytest
from aiohttp import web
from streammesh import Reject, Retry, lua
from streammesh.dead_letters import DeadLetter
from streammesh.events import envelope
from streammesh.tasks.pause import Pause, pause_call

from services.scheduler.alert_watch import AlertWatch
from services.scheduler.alerts import Found, document
from services.scheduler.webhook import tell

NOW = 1_763_790_000_000


def letter(n=0, task="mail.welcome", kind="Reject", reason="550 no such user", at=NOW):
    return DeadLetter(f"l{n}", "mail", "task", reason, kind, at, task=task)


def test_an_alert_counts_by_handler_and_kind_and_says_what_to_do():
    letters = [letter(n) for n in range(3)] + [letter(9, "mail.invoice", "TimeoutError", "too slow")]
    said = document(Found(12.4, 4, letters, [Pause("mail.welcome", NOW, "550 no such user", 20)]))

    assert said["text"].splitlines() == [
        "mail.welcome is paused after 20 failures in a row: 550 no such user",
        "    streammesh subscriptions resume mail.welcome",
        "4 dead letters in 12 s",
        "    3 x mail.welcome: Reject: 550 no such user",
        "    1 x mail.invoice: TimeoutError: too slow",
        "    streammesh dead list",
    ]
    assert (said["dead_letters"], said["groups"][0]["count"], len(said["paused"])) == (4, 3, 1)


def test_what_there_is_no_room_for_is_counted():
    letters = [letter(n, f"mail.h{n}") for n in range(8)]
    text = document(Found(300, 1000, letters, []))["text"]

    assert text.startswith("1000 dead letters in 5 min\n")
    assert "and 995 others" in text


def test_a_reason_cannot_mention_everybody_or_break_the_lines():
    text = document(Found(1, 1, [letter(reason="<!channel> & <http://evil|here>\nnext")], []))["text"]

    assert "&lt;!channel&gt; &amp; &lt;http://evil|here&gt; next" in text


@pytest.fixture
def watch(mesh_redis, mesh_keys, mesh_settings):
    def make(every=0.0):
        return AlertWatch(mesh_redis, mesh_keys, mesh_settings, timedelta(seconds=every))

    return make


@pytest.fixture
def park(mesh_redis, mesh_keys):
    async def park(letter_id, task="mail.welcome"):
        value = {
            "form": "task", "id": letter_id, "task": task, "reason": "no", "kind": "Reject", "attempts": 1,
        }  # fmt: skip
        seconds, micros = await mesh_redis.time()
        service = task.partition(".")[0]
        await mesh_redis.hset(mesh_keys.dead(service), letter_id, orjson.dumps(value))
        await mesh_redis.zadd(mesh_keys.dead_index(service), {letter_id: seconds * 1000 + micros // 1000})
        await mesh_redis.sadd(mesh_keys.dead_services(), service)
        await asyncio.sleep(0.002)  # the watch leaves the millisecond that is not over to its next look

    return park


async def raised(mesh_redis, mesh_keys):
    entries = await mesh_redis.xrange(mesh_keys.events("alert"))
    return [envelope.from_json(fields[b"e"]) for _, fields in entries]


async def test_what_was_there_before_anybody_watched_raises_nothing(watch, park, mesh_redis, mesh_keys):
    await park("old")

    assert [await watch().look() for _ in range(3)] == [False] * 3
    assert await raised(mesh_redis, mesh_keys) == []


async def test_each_dead_letter_is_told_once_by_one_of_several_watches(watch, park, mesh_redis, mesh_keys):
    watches = [watch() for _ in range(4)]
    await watches[0].look()
    await asyncio.sleep(0.002)
    await park("a")
    await park("b")
    first = await asyncio.gather(*(one.look() for one in watches))
    again = await asyncio.gather(*(one.look() for one in watches))
    await park("c")
    last = await asyncio.gather(*(one.look() for one in watches))

    assert (sum(first), sum(again), sum(last)) == (1, 0, 1)
    events = await raised(mesh_redis, mesh_keys)
    assert [event.data["dead_letters"] for event in events] == [2, 1]
    assert {event.type for event in events} == {"alert.raised"}


async def test_alerts_keep_their_distance_and_the_next_one_tells_what_came_meanwhile(
    watch, park, mesh_redis, mesh_keys
):
    patient = watch(every=0.3)
    await patient.look()
    await park("a")
    assert await patient.look() is False
    await park("b")
    await asyncio.sleep(0.3)

    assert await patient.look() is True
    [event] = await raised(mesh_redis, mesh_keys)
    assert event.data["dead_letters"] == 2


async def test_a_paused_subscription_raises_an_alert(watch, mesh_redis, mesh_keys, mesh_settings):
    one = watch()
    await one.look()
    await asyncio.sleep(0.002)
    call = pause_call(mesh_keys, mesh_settings, "mail.welcome", "user.registered", "it moves house")
    await lua.run(mesh_redis, call)
    await asyncio.sleep(0.002)

    assert await one.look() is True
    [event] = await raised(mesh_redis, mesh_keys)
    assert event.data["paused"] == [
        {"subscription": "mail.welcome", "failures": 0, "reason": "it moves house"}
    ]


async def test_a_failing_alert_raises_no_alert(watch, park, mesh_redis, mesh_keys):
    one = watch()
    await one.look()
    await asyncio.sleep(0.002)
    await park("a", task="scheduler.send_alert")

    assert await one.look() is False
    assert await raised(mesh_redis, mesh_keys) == []


@pytest.fixture
async def webhook():
    """A webhook that answers as it is told, and what it was sent."""
    heard: list[Any] = []
    answers: list[Any] = []

    async def hook(request):
        heard.append(await request.json())
        status, headers = answers.pop(0) if answers else (200, {})
        return web.Response(status=status, headers=headers, text="said so")

    app = web.Application()
    app.router.add_post("/secret", hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = cast("Any", site._server).sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/secret", heard, answers
    await runner.cleanup()


async def test_the_webhook_is_sent_text_as_slack_takes_it(webhook):
    url, heard, _ = webhook

    assert await tell(url, "4 dead letters") == 200
    assert heard == [{"text": "4 dead letters"}]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_an_answer_that_may_be_another_one_later_is_tried_again(webhook, status):
    url, _, answers = webhook
    answers.append((status, {"Retry-After": "7"}))

    with pytest.raises(Retry) as again:
        await tell(url, "text")

    assert again.value.after == timedelta(seconds=7)
    assert "secret" not in str(again.value)


@pytest.mark.parametrize("status", [302, 400, 404])
async def test_an_answer_that_stays_is_not(webhook, status):
    url, _, answers = webhook
    answers.append((status, {"Location": "http://127.0.0.1:1/"}))

    with pytest.raises(Reject) as never:
        await tell(url, "text")

    assert str(status) in str(never.value)
    assert "/secret" not in str(never.value)


async def test_a_webhook_that_is_away_is_tried_again_and_not_named():
    with pytest.raises(Retry) as again:
        await tell("http://127.0.0.1:1/secret", "text")

    assert "secret" not in str(again.value)
