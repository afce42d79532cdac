"""Server-sent events over a real connection: nothing missed, nothing twice, and cut where it must be."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from datetime import timedelta

import pytest
from streammesh.api_keys import ApiKey
from streammesh.notifications import Filter
from streammesh.testing.conditions import wait_until

from services.api.push.follower import BUFFER
from services.api.settings import ApiSettings
from services.api.tests.expectations import assert_problem
from services.api.tests.sse import listening


def ids(heard):
    return [one.last_event_id for one in heard]


async def test_who_listens_is_told_in_order_from_then_on(live, mesh):
    await mesh.tell(n=3)

    async with listening(live, "/v1/notifications") as stream:
        headers = stream.response.headers
        told = await mesh.tell(n=5)
        heard = await stream.take(5)

    assert ids(heard) == told
    assert {one.type for one in heard} == {"task.started"}
    assert heard[0].data["id"] == told[0] and heard[0].data["event"]["type"] == "a.b"
    assert heard[0].data["time"].endswith("Z")
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
    assert headers["x-request-id"] and 500 <= stream.retry <= 3_000


async def test_a_client_that_heard_nothing_yet_resumes_from_where_it_began(live, mesh):
    (before,) = await mesh.tell()
    async with listening(live, "/v1/notifications") as stream:
        began = stream.position
    told = await mesh.tell(n=2)

    async with listening(live, "/v1/notifications", headers={"last-event-id": began}) as stream:
        assert (began, ids(await stream.take(2))) == (before, told)


BODY = b'"event":{"id":"e","type":"a.b","source":"s","subject":null},"task":null,"data":{}'


@pytest.mark.parametrize(
    "garbage",
    [
        {"t": b"task.started", "e": b"\xff\xfe", "y": b"a.b", "b": BODY},
        {"t": b"task.started", "e": b"e", "y": b"a.b", "b": b"\xff"},
        {"t": b"task.started", "e": b"e", "y": b"a.b", "b": b"no JSON"},
        {"t": b"task.started", "e": b"e", "y": b"a.b", "b": BODY + b',"x":1\n\ndata: forged'},
        {"t": b"task.started\ndata: forged", "e": b"e", "y": b"a.b", "b": BODY},
        {"something": b"else"},
    ],
)
async def test_what_is_no_notification_is_stepped_over_by_who_listens_and_by_who_catches_up(
    garbage, live, mesh, mesh_redis, mesh_keys
):
    async with listening(live, "/v1/notifications") as stream:
        await mesh_redis.xadd(mesh_keys.notifications(), garbage)
        told = await mesh.tell(n=2)
        heard = await stream.take(2)
    async with listening(live, "/v1/notifications", params={"after": "0"}) as stream:
        past = await stream.take(2)

    assert ids(heard) == ids(past) == told


@pytest.mark.parametrize("how", ["header", "query", "lastEventId", "lastEventID", "header before query"])
async def test_resuming_misses_nothing_and_tells_nothing_twice(live, mesh, how):
    told = await mesh.tell(n=1_200)
    options = {
        "header": {"headers": {"last-event-id": told[99]}},
        "query": {"params": {"after": told[99]}},
        "lastEventId": {"params": {"lastEventId": told[99], "after": told[700]}},
        "lastEventID": {"params": {"lastEventID": told[99], "after": told[700]}},
        "header before query": {"headers": {"last-event-id": told[99]}, "params": {"after": told[700]}},
    }[how]

    async with listening(live, "/v1/notifications", **options) as stream:
        more = await mesh.tell(n=10)
        heard = await stream.take(1_110)

    assert ids(heard) == told[100:] + more


async def test_catching_up_while_more_is_told_has_no_gap_and_no_double(live, mesh):
    told = await mesh.tell(n=2_000)
    done = asyncio.Event()

    async def go_on() -> list[str]:
        more = []
        while not done.is_set():
            more += await mesh.tell(n=20)
            await asyncio.sleep(0)
        return more

    telling = asyncio.create_task(go_on())
    async with listening(live, "/v1/notifications", params={"after": "0"}) as stream:
        heard = await stream.take(3_000)
        done.set()
        told += await telling
        heard += await stream.take(len(told) - len(heard))

    assert ids(heard) == told


async def test_what_was_caught_up_with_ahead_of_the_reader_is_not_told_twice(api, door, mesh):
    hub = door.app.state.wiring.hub
    follower, gate, read = hub.open(ApiKey("a", admin=True), Filter()), asyncio.Event(), hub._read_once

    async def held():
        await gate.wait()
        await read()

    hub._read_once = held
    await hub.ensure_reading()
    told = await mesh.tell(n=3)
    heard = [one async for page in hub.attach(follower, "0-0") for one in page]
    gate.set()
    told += await mesh.tell()
    async with asyncio.timeout(5):
        while len(heard) < 4:
            heard += await follower.take(1)

    assert [one.note.id for one in heard] == told


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"event": "one"}, [0, 1]),
        ({"type": "task.failed"}, [1, 3]),
        ({"type": "order.*"}, [0, 1]),
        ({"type": "task.*", "event": "two"}, [2, 3]),
        ({"service": "nobody"}, []),
        ({"task": "nothing"}, []),
        ({"subject": "user/42"}, []),
    ],
)
async def test_filters_choose_and_a_heartbeat_moves_past_the_rest(live, mesh, query, expected):
    async with listening(live, "/v1/notifications", params=query) as stream:
        told = [
            *await mesh.tell("one", "order.placed"),
            *await mesh.tell("one", "order.placed", "task.failed"),
            *await mesh.tell("two", "user.registered"),
            *await mesh.tell("two", "user.registered", "task.failed"),
        ]
        await stream.until(lambda: stream.position == told[-1])
        await stream.until(lambda: "heartbeat" in stream.comments)

    assert [told.index(one.last_event_id) for one in stream.heard] == expected


async def test_a_key_is_told_only_of_events_that_it_may_read(live, mesh, make_key):
    key = await make_key("narrow", subscribe=["order.*"])

    async with listening(live, "/v1/notifications", headers={"authorization": f"Bearer {key}"}) as stream:
        told = [*await mesh.tell(event_type="user.registered"), *await mesh.tell(event_type="order.placed")]
        heard = await stream.next()

    assert heard.last_event_id == told[1]


async def test_history_that_is_gone_is_told_as_resync_and_the_rest_follows(live, mesh, mesh_redis, mesh_keys):
    told = await mesh.tell(n=20)
    await mesh_redis.xtrim(mesh_keys.notifications(), maxlen=5, approximate=False)

    async with listening(live, "/v1/notifications", headers={"last-event-id": told[3]}) as stream:
        heard = await stream.take(6)
        more = await mesh.tell()
        heard.append(await stream.next())

    assert (heard[0].type, heard[0].data["after"]) == ("resync", told[3])
    assert ids(heard[1:]) == told[15:] + more


async def test_a_position_from_the_future_is_told_as_resync_and_goes_on_from_now(live, mesh):
    await mesh.tell()

    async with listening(live, "/v1/notifications", params={"after": "9999999999999-0"}) as stream:
        first = await stream.next()
        told = await mesh.tell()
        second = await stream.next()

    assert (first.type, second.last_event_id) == ("resync", told[0])


async def test_nothing_is_read_while_nobody_listens(live, door, mesh, mesh_redis):
    async def readers():
        return [c for c in await mesh_redis.client_list() if c["name"] == "streammesh-api-notifications"]

    async def one_reads():
        return len(await readers()) == 1

    assert await readers() == []
    async with listening(live, "/v1/notifications"), listening(live, "/v1/notifications"):
        await mesh.tell()
        await wait_until("one reader reads", one_reads)
    hub = door.app.state.wiring.hub

    async with asyncio.timeout(5):
        while not hub._reader.done():
            await asyncio.sleep(0.02)


async def test_many_listeners_are_told_by_one_reader(live, mesh):
    async with asyncio.TaskGroup() as group, listening(live, "/v1/notifications") as watcher:

        async def listen():
            async with listening(live, "/v1/notifications", params={"type": "a.*"}) as stream:
                open_.append(stream)
                if len(open_) == 30:
                    opened.set()
                return ids(await stream.take(50))

        open_, opened = [], asyncio.Event()
        listeners = [group.create_task(listen()) for _ in range(30)]
        await opened.wait()
        told = await mesh.tell(n=50)
        assert ids(await watcher.take(50)) == told

    assert all(task.result() == told for task in listeners)


async def test_an_interrupted_reader_goes_on_where_it_was(live, mesh, mesh_redis):
    async with listening(live, "/v1/notifications") as stream:
        told = await mesh.tell(n=2)
        await stream.take(2)
        (reader,) = [c for c in await mesh_redis.client_list() if c["name"] == "streammesh-api-notifications"]
        await mesh_redis.client_kill_filter(_id=reader["id"])
        told = await mesh.tell(n=3)

        assert ids(await stream.take(3)) == told


async def test_what_was_trimmed_while_the_reader_was_away_is_told_as_resync(
    live, mesh, mesh_redis, mesh_keys
):
    async with listening(live, "/v1/notifications") as stream:
        await mesh.tell()
        await stream.next()
        (reader,) = [c for c in await mesh_redis.client_list() if c["name"] == "streammesh-api-notifications"]
        pipeline = mesh_redis.pipeline(transaction=True)
        pipeline.client_kill_filter(_id=reader["id"])
        for _ in range(10):
            pipeline.xadd(
                mesh_keys.notifications(), {"t": "task.started", "e": "e", "y": "a.b", "b": '"data":{}'}
            )
        pipeline.xtrim(mesh_keys.notifications(), maxlen=4, approximate=False)
        await pipeline.execute()
        heard = await stream.take(5)

    assert [one.type for one in heard] == ["resync", *["task.started"] * 4]


class Stuck:
    free = False


class TestSlowReaders:
    @pytest.fixture
    def api_settings(self) -> ApiSettings:
        return ApiSettings(
            _env_file=None,
            port=0,
            heartbeat=timedelta(milliseconds=200),
            stall=timedelta(milliseconds=400),
            drain=timedelta(seconds=2),
        )

    async def test_one_that_takes_nothing_is_cut_and_the_others_do_not_notice(self, live, door, mesh, admin):
        hub = door.app.state.wiring.hub
        with socket.create_connection(("127.0.0.1", live.base_url.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            slow.sendall(
                b"GET /v1/notifications HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
                + admin.encode()
                + b"\r\n\r\n"
            )
            async with listening(live, "/v1/notifications") as quick:
                async with asyncio.timeout(5):
                    while len(hub._open) < 2:
                        await asyncio.sleep(0.01)
                (follower,) = [f for f in hub._open if f is not None and f.ended is None][:1]
                told = []
                async with asyncio.timeout(20):
                    while len(hub._open) == 2:
                        told += await mesh.tell(event="e" * 400, n=100)
                        newest = told[-1]
                        await quick.until(lambda: quick.position == newest)  # noqa: B023  asked before the next one
                assert ids(quick.heard) == told
                assert len(follower._waiting or ()) <= BUFFER
            slow.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                with suppress(ConnectionResetError):
                    while await loop.sock_recv(slow, 65_536):
                        pass  # the connection is dropped, not left half open

    async def test_one_that_takes_some_is_told_why_it_is_cut(self, live, door, mesh):
        hub = door.app.state.wiring.hub
        async with listening(live, "/v1/notifications") as stream:
            await mesh.tell()
            await stream.next()
            (follower,) = hub._open
            outlet = follower.outlet
            follower.outlet = Stuck()
            more = await mesh.tell(n=BUFFER + 50)
            async with asyncio.timeout(5):
                while follower.ended is None:
                    await asyncio.sleep(0.01)
            follower.outlet = outlet
            follower.flush()
            heard = await stream.rest()

        assert (heard[-1].type, heard[-1].data["reason"]) == ("closed", "slow")
        assert ids(heard[:-1]) == more[:BUFFER]
        async with listening(live, "/v1/notifications", headers={"last-event-id": stream.position}) as stream:
            assert ids(await stream.take(50)) == more[BUFFER:]


async def test_a_stream_is_closed_at_once_when_the_server_stops(live, door, mesh):
    async with listening(live, "/v1/notifications") as stream:
        await door.app.state.wiring.hub.stop()
        heard = await stream.rest()

    assert [(one.type, one.data["reason"]) for one in heard] == [("closed", "stopping")]
    assert_problem(await live.get("/v1/notifications"), 503, "overloaded")


class TestSlots:
    @pytest.fixture
    def api_settings(self) -> ApiSettings:
        return ApiSettings(_env_file=None, port=0, max_streams=3, max_streams_per_key=2)

    async def test_streams_are_limited_for_a_key_and_for_the_replica_and_come_back(
        self, live, door, make_key
    ):
        other = {"authorization": f"Bearer {await make_key('other', admin=True)}"}
        hub = door.app.state.wiring.hub

        async with listening(live, "/v1/notifications"), listening(live, "/v1/notifications"):
            answer = await live.get("/v1/notifications")
            assert_problem(answer, 429, "too-many-requests")
            assert answer.headers["retry-after"]
            async with listening(live, "/v1/notifications", headers=other):
                assert_problem(await live.get("/v1/notifications", headers=other), 503, "overloaded")

        async with asyncio.timeout(5):
            while hub._open:
                await asyncio.sleep(0.01)
        async with listening(live, "/v1/notifications"):
            pass


class TestCrowd:
    @pytest.fixture
    def api_settings(self) -> ApiSettings:
        return ApiSettings(_env_file=None, port=0, max_concurrent=2)

    async def test_a_full_replica_says_so_at_once(self, live):
        async with listening(live, "/v1/notifications"), listening(live, "/v1/notifications"):
            answer = await live.get("/readyz")
            alive = await live.get("/livez")

        assert_problem(answer, 503, "overloaded")
        assert alive.status_code == 200  # or it would be restarted for being busy
        assert answer.headers["retry-after"] == "1"
