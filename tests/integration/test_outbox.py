"""Events leave with a service's own transaction: of its database through the outbox, of Redis in its pipeline."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from redis.exceptions import ResponseError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from streammesh import logs
from streammesh.errors import EventConflict, EventTooLarge, InvalidEvent, MeshFull, MeshUnavailable
from streammesh.events import envelope
from streammesh.events.publisher import SyncPublisher
from streammesh.outbox import Outbox, Relay, outbox_table
from streammesh.pipeline_publisher import PipelinePublisher
from streammesh.redisio.client import open_sync
from typer.testing import CliRunner

from tests.harness.postgres import Postgres, folder_of_programs

ONE_DAY = timedelta(days=1)
METADATA = sa.MetaData()
TABLE = outbox_table(METADATA)
ORDERS = sa.Table("orders", METADATA, sa.Column("id", sa.Integer, primary_key=True))


@pytest.fixture(scope="module")
def postgres():
    if folder_of_programs() is None:
        pytest.skip("no PostgreSQL here")
    with Postgres() as server:
        yield server.url.replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    url = f"sqlite:///{tmp_path}/own.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    engine = sa.create_engine(url)
    METADATA.create_all(engine)
    yield engine
    METADATA.drop_all(engine)
    engine.dispose()


@pytest.fixture
def publisher(mesh_keys, mesh_settings):
    client = open_sync(mesh_settings, "outbox")
    yield SyncPublisher(client, mesh_keys, mesh_settings, "outbox")
    client.close()


@pytest.fixture
def relay(engine, publisher):
    return Relay(engine, publisher, TABLE)


@pytest.fixture
def stored(mesh_redis, mesh_keys):
    async def stored(domain="order"):
        found = await mesh_redis.xrange(mesh_keys.events(domain))
        return [envelope.from_json(fields[b"e"]) for _, fields in found]

    return stored


def write(engine, *ids, source="shop", **more):
    with Session(engine) as session:
        for one in ids:
            Outbox(source, TABLE).add(session, "order.placed", {"n": one}, id=str(one), **more)
        session.commit()


def left(engine):
    with engine.connect() as connection:
        return connection.execute(sa.select(TABLE).order_by(TABLE.c.position)).all()


async def test_an_event_is_published_if_its_transaction_was_committed_and_not_if_it_was_not(
    engine, relay, stored
):
    outbox = Outbox("shop", TABLE)
    with Session(engine) as session:
        session.execute(ORDERS.insert().values(id=1))
        kept = outbox.add(session, "order.placed", {"text": "\x00\u20ac", "n": 2**70}, subject="order/1")
        session.commit()
        session.execute(ORDERS.insert().values(id=2))
        outbox.add(session, "order.placed", {"id": 2})
        session.rollback()
        with pytest.raises(InvalidEvent):
            outbox.add(session, "", {})
        with pytest.raises(EventTooLarge):
            outbox.add(session, "order.placed", "x" * 1_000_000)

    assert (await relay.run_once()).relayed == 1
    assert (await relay.run_once()).relayed == 0
    assert await stored() == [kept]
    assert left(engine) == []


async def test_an_asyncio_session_writes_it_too(postgres, publisher, stored):
    engine = create_async_engine(postgres)
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    async with AsyncSession(engine) as session:
        event = await Outbox("shop", TABLE).add_async(session, "order.placed", {"n": 1})
        await session.commit()
    with_sync = sa.create_engine(postgres)

    assert (await Relay(with_sync, publisher, TABLE).run_once()).relayed == 1
    assert [one.id for one in await stored()] == [event.id]
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.drop_all)
    await engine.dispose()
    with_sync.dispose()


@pytest.mark.parametrize("moment", ["before the mesh has it", "before it is deleted", "before the commit"])
async def test_killed_at_any_moment_it_is_relayed_again_and_is_there_once(
    engine, relay, stored, monkeypatch, moment
):
    write(engine, 1, 2, 3)
    step = {"before the mesh has it": "_publish", "before it is deleted": "_write_down"}.get(
        moment, "_drop_old"
    )

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(relay, step, killed)
        with pytest.raises(KeyboardInterrupt):
            relay.relay()
    assert len(left(engine)) == 3

    assert relay.relay().relayed == 3
    assert [one.id for one in await stored()] == ["1", "2", "3"] and left(engine) == []


async def test_what_can_never_be_published_is_set_aside_and_the_rest_goes_on(
    engine, relay, publisher, stored
):
    publisher.publish_events([envelope.make("order.placed", {"n": "other"}, source="shop", id="2")])
    write(engine, 1, 2, 3)
    odd = [("{", "e"), ("[1]", "e"), ('{"specversion": "1.0"}', "e"), ("x" * (envelope.LARGEST + 1), "e")]
    with engine.begin() as connection:
        for text, kind in odd:
            connection.execute(
                TABLE.insert().values(event_id="?", type=kind, envelope=text, written=0, partition=None)
            )
    write(engine, 4)

    passed = relay.relay()

    assert (passed.relayed, passed.aside) == (3, 5)
    assert [one.id for one in await stored()] == ["2", "1", "3", "4"]
    rows = left(engine)
    assert len(rows) == 5 and all(row.aside and row.reason for row in rows)
    assert "different content" in rows[0].reason and "no event" in rows[1].reason
    assert relay.relay().relayed == 0
    assert relay.try_again() == 5 and relay.relay().aside == 5
    short = Relay(relay._engine, publisher, TABLE, aside_kept=-ONE_DAY)
    short.relay()
    assert left(engine) == []


async def test_what_redis_refuses_by_itself_waits_with_its_partition_and_nothing_else_does(
    engine, relay, publisher, stored, monkeypatch
):
    write(engine, 1, 2, subject="a")
    write(engine, 3, subject="b")
    real = publisher.publish_events

    def refusing(events):
        if any(event.id == "1" for event in events):
            raise ResponseError("value is not an integer")
        return real(events)

    with monkeypatch.context() as patched:
        patched.setattr(publisher, "publish_events", refusing)
        passed = relay.relay()
        assert (passed.relayed, passed.later) == (1, 1)
        assert relay.relay().relayed == 0, "2 waits behind 1"
    assert [one.id for one in await stored()] == ["3"]

    with engine.begin() as connection:
        connection.execute(sa.update(TABLE).values(not_before=0))
    assert relay.relay().relayed == 2
    assert [one.id for one in await stored()] == ["3", "1", "2"]


async def test_while_the_mesh_is_away_or_full_everything_waits_in_the_database(
    engine, relay, publisher, stored, monkeypatch
):
    write(engine, 1)
    for error in (MeshUnavailable("no route"), MeshFull()):
        with monkeypatch.context() as patched:
            patched.setattr(publisher, "publish_events", lambda _, error=error: (_ for _ in ()).throw(error))
            with pytest.raises(MeshUnavailable):
                await relay.run_once()
    assert len(left(engine)) == 1 and await stored() == []

    running = asyncio.create_task(relay.run())
    while left(engine):
        await asyncio.sleep(0.01)
    write(engine, 2)
    relay.changed.set()
    while left(engine):
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [one.id for one in await stored()] == ["1", "2"]


@pytest.mark.parametrize("in_order", [True, False])
async def test_several_relays_share_the_rows_or_keep_their_order(postgres, publisher, stored, in_order):
    engine = sa.create_engine(postgres)
    METADATA.create_all(engine)
    write(engine, *range(60))
    relays = [Relay(engine, publisher, TABLE, batch=7, in_order=in_order) for _ in range(4)]
    together, most, at_once = threading.Lock(), 0, 0
    real = publisher.publish_events

    def publish(events):
        nonlocal most, at_once
        with together:
            at_once += 1
            most = max(most, at_once)
        done = real(events)
        with together:
            at_once -= 1
        return done

    publisher.publish_events = publish

    def work(relay):
        while left(engine):
            relay.relay()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, relays))
    ids = [int(one.id) for one in await stored()]
    METADATA.drop_all(engine)
    engine.dispose()

    assert sorted(ids) == list(range(60))
    assert ids == sorted(ids) if in_order else most > 1
    assert most == 1 if in_order else True


@pytest.mark.parametrize("kind", ["asyncio", "blocking"])
async def test_in_a_pipeline_events_and_own_writes_are_one_step(
    kind, mesh_redis, mesh_keys, mesh_settings, publisher, stored
):
    """A pipeline of either kind; the server forgot its scripts before."""
    await mesh_redis.script_flush()
    own = f"{mesh_keys.prefix}own-of-a-test"
    pipe = mesh_redis.pipeline() if kind == "asyncio" else publisher._client.pipeline()
    shop = PipelinePublisher(pipe, mesh_keys, mesh_settings, "shop")

    async def execute(**options):
        answers = pipe.execute(**options)
        return await answers if kind == "asyncio" else answers

    pipe.set(own, 1)
    queued = shop.publish("order.placed", {"n": 1}, id="1")
    pipe.incr(own)
    assert await stored() == [] and not await mesh_redis.exists(own)
    [published] = queued.published(await execute())
    assert (published.id, published.duplicate, await mesh_redis.get(own)) == ("1", False, b"2")
    assert [one.id for one in await stored()] == ["1"]

    pipe.incr(own)
    queued = shop.publish("order.placed", {"n": "other"}, id="1")
    answers = await execute(raise_on_error=False)
    with pytest.raises(EventConflict):
        queued.published(answers)
    assert await mesh_redis.get(own) == b"3", "Redis rolls nothing back, as its page says"
    with pytest.raises(InvalidEvent):
        shop.publish("", {})
    assert len(pipe) == 0
    await mesh_redis.delete(own)
    await pipe.aclose() if kind == "asyncio" else pipe.close()


def test_the_command_makes_the_table_relays_and_says_what_is_wrong(tmp_path, mesh_settings, monkeypatch):
    from streammesh.cli.commands import app

    url = f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setattr(
        logs, "configure", lambda *_: None
    )  # of this process, whose other tests read what is logged
    monkeypatch.setenv("MESH_REDIS_URL", mesh_settings.redis_url)
    monkeypatch.setenv("MESH_NAMESPACE", mesh_settings.namespace)
    monkeypatch.setenv("OUTBOX_URL", url)
    run = CliRunner().invoke
    missing = run(app, ["outbox", "--once"])
    assert missing.exit_code == 2 and "there is no table streammesh_outbox" in missing.output
    assert run(app, ["outbox", "--once", "--database", "nonsense"]).exit_code == 2
    assert run(app, ["outbox", "--once", "--create"]).output == "0 events relayed\n"
    engine = sa.create_engine(url)
    write(engine, 1, 2)
    with engine.begin() as connection:
        connection.execute(TABLE.insert().values(event_id="?", type="?", envelope="{", written=0))
    engine.dispose()
    assert run(app, ["outbox", "--once"]).output.endswith("2 events relayed\n")
    assert run(app, ["outbox", "--once", "--again"]).output.startswith("1 rows are tried again\n")
