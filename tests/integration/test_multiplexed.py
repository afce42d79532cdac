"""Many calls on one connection: answered in order, failed together, good again afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from streammesh import lua
from streammesh.embedded import EmbeddedServer
from streammesh.events import envelope
from streammesh.events.encoded import seal
from streammesh.events.publisher import publish_call
from streammesh.redisio.client import open_async
from streammesh.redisio.pipeline import Multiplexed
from streammesh.tasks.ledger import Ledger
from streammesh.tasks.task import QueuePlace, TaskRef


@pytest.fixture
async def calls(mesh_redis):
    shared = Multiplexed(mesh_redis, 2)
    yield shared
    await shared.aclose()


def publishing(keys, settings, number):
    event = envelope.make("order.placed", {"n": number}, source="tests", id=str(number))
    return publish_call(keys, settings, [seal(event)])


async def test_each_caller_gets_its_own_answer(calls, mesh_keys, mesh_settings):
    answers = await asyncio.gather(*(calls.run(publishing(mesh_keys, mesh_settings, n)) for n in range(500)))

    assert [answer[0].id for answer in answers] == [str(n) for n in range(500)]


async def test_all_share_one_connection(calls, mesh_redis, mesh_keys, mesh_settings):
    before = {c["id"] for c in await mesh_redis.client_list()}
    await asyncio.gather(*(calls.run(publishing(mesh_keys, mesh_settings, n)) for n in range(200)))

    after = {c["id"] for c in await mesh_redis.client_list()}
    assert len(after - before) == 1


async def test_a_call_that_fails_fails_alone(calls, mesh_keys, mesh_settings):
    asked = [publishing(mesh_keys, mesh_settings, n) for n in range(3)]
    asked[1] = asked[1]._replace(args=["no number", *asked[1].args[1:2], "none", *asked[1].args[3:]])
    answers: list[Any] = await asyncio.gather(*map(calls.run, asked), return_exceptions=True)

    assert isinstance(answers[1], ResponseError)
    assert [answers[n][0].id for n in (0, 2)] == ["0", "2"]


async def test_what_cannot_be_sent_fails_alone(calls, mesh_keys, mesh_settings):
    ledger = Ledger(mesh_keys, mesh_settings)

    def claim(task_id, subject):
        event = replace(envelope.make("order.placed", {}, source="tests"), subject=subject)
        return ledger.claim(TaskRef(task_id, "billing.bill", "billing", event), QueuePlace("billing"), "w")

    asked = [publishing(mesh_keys, mesh_settings, 1), claim("a", "a text"), claim("b", ["no text"])]
    asked += [claim("c", None), publishing(mesh_keys, mesh_settings, 2)]
    answers: list[Any] = await asyncio.gather(*map(calls.run, asked), return_exceptions=True)

    assert [answers[n][0].id for n in (0, 4)] == ["1", "2"]
    assert [answers[n].verdict for n in (1, 3)] == ["gone", "gone"]
    assert isinstance(answers[2], TypeError)


async def test_a_caller_that_goes_away_does_not_mix_up_the_others(calls, mesh_keys, mesh_settings):
    gone = asyncio.create_task(calls.run(publishing(mesh_keys, mesh_settings, 0)))
    staying = [asyncio.create_task(calls.run(publishing(mesh_keys, mesh_settings, n))) for n in range(1, 50)]
    await asyncio.sleep(0)
    gone.cancel()

    assert [answer[0].id for answer in await asyncio.gather(*staying)] == [str(n) for n in range(1, 50)]


async def test_a_script_that_the_server_has_forgotten_is_sent_again(
    calls, mesh_redis, mesh_keys, mesh_settings
):
    await calls.run(publishing(mesh_keys, mesh_settings, 1))
    await mesh_redis.script_flush()

    [answer] = await calls.run(publishing(mesh_keys, mesh_settings, 2))

    assert answer.duplicate is False


async def test_a_cut_connection_fails_what_is_in_flight_and_the_next_call_makes_a_new_one(
    tmp_path, mesh_keys, mesh_settings
):
    with EmbeddedServer(tmp_path, appendonly=False) as server:
        settings = mesh_settings.model_copy(update={"redis_url": server.url})
        client = open_async(settings, "cut")
        calls = Multiplexed(client, 2)
        await calls.run(publishing(mesh_keys, settings, 1))
        server.pause()
        in_flight = [asyncio.create_task(calls.run(publishing(mesh_keys, settings, n))) for n in (2, 3)]
        await asyncio.sleep(0.05)
        port, folder = server.port, server.folder
        server.stop(kill=True)
        failed = await asyncio.gather(*in_flight, return_exceptions=True)
        with EmbeddedServer(folder, port=port, appendonly=False):
            [answer] = await calls.run(publishing(mesh_keys, settings, 4))
            await calls.aclose()
            await client.aclose()

    assert all(isinstance(error, RedisConnectionError) for error in failed)
    assert answer.id == "4"


async def test_a_server_that_hangs_is_noticed(tmp_path, mesh_keys, mesh_settings):
    with EmbeddedServer(tmp_path, appendonly=False) as server:
        settings = mesh_settings.model_copy(update={"redis_url": server.url})
        client = open_async(settings, "hang")
        calls = Multiplexed(client, 0.3)
        await calls.run(publishing(mesh_keys, settings, 1))
        server.pause()
        try:
            with pytest.raises(RedisTimeoutError):
                await asyncio.wait_for(calls.run(publishing(mesh_keys, settings, 2)), 5)
        finally:
            server.resume()
        [answer] = await calls.run(publishing(mesh_keys, settings, 3))
        await calls.aclose()
        await client.aclose()

    assert answer.id == "3"
    assert lua.script("publish_once").sha
