"""Results of steps beyond 64 KiB: in the store, read back where the step is replayed, gone with their task."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from streammesh import Context, Service, lua
from streammesh.durable import claim_check
from streammesh.durable.calls import DurableCalls, StepAnswer
from streammesh.durable.claim_check import ClaimCheck, StoreAway
from streammesh.durable.drive import sync_driver
from streammesh.durable.records import StepRecord, parse_record
from streammesh.durable.run import Run
from streammesh.errors import Fail
from streammesh.events.envelope import build
from streammesh.keys import Keys
from streammesh.settings import MeshSettings
from streammesh.subscriptions.manifest import Subscription
from streammesh.tasks.task import QueuePlace, TaskRef
from streammesh.testing import Mesh

LARGE = "é" * 150_000
REF = TaskRef("5b0e3c56-7d0b-5f5e-8a53-0f5d8b1f0a11", "shop.big", "shop", build("tests", "order.placed", {}))
service = Service("shop_worker")
made: list[str] = []


def large(task_id: str) -> str:
    made.append(task_id)
    return LARGE


@service.on("order.placed", retries=1, backoff=0.01)
async def place(data: Any, ctx: Context) -> int:
    text = await ctx.step("large", large, ctx.task_id)
    if ctx.attempt == 1:
        raise ConnectionError("after the step")
    return len(text)


@service.on("order.named", retries=1, backoff=0.01)
def name(data: Any, ctx: Context) -> int:
    text = ctx.step("large", large, ctx.task_id)
    if ctx.attempt == 1:
        raise ConnectionError("after the step")
    return len(text)


@pytest.fixture
def mesh_settings(mesh_settings: MeshSettings, tmp_path: Path) -> MeshSettings:
    return mesh_settings.model_copy(update={"store_url": str(tmp_path / "store")})


@pytest.mark.parametrize("event_type", ["order.placed", "order.named"])
def test_a_large_result_is_read_back_from_the_store_and_leaves_with_its_task(
    mesh: Mesh, event_type: str, tmp_path: Path
) -> None:
    mesh.run(service)
    event = mesh.publish(event_type, {}).get()
    outcome = mesh.outcome(event).get()
    [task] = outcome.tasks
    assert (task.state, task.result, task.attempt) == ("succeeded", len(LARGE), 2), task.error
    assert made.count(task.id) == 1

    row = mesh._ask(mesh._client.hgetall(mesh.keys.task(task.id))).get()
    record = parse_record(row[b"step:large"])
    assert record.kind == "stored" and len(record.value) < 200
    [kept] = (path for path in (tmp_path / "store" / "claims").rglob(f"*/{task.id}/*"))
    assert kept.stat().st_size == len(LARGE.encode()) + 2
    claims = ClaimCheck(mesh.settings)
    assert claims.tidy("shop_worker", timedelta(seconds=-1)) == 0
    mesh._ask(mesh._client.delete(mesh.keys.task(task.id))).get()
    assert (
        claims.tidy("shop_worker", timedelta(minutes=5)) == 0
    )  # it might be of a run whose row is on its way
    assert claims.tidy("shop_worker", timedelta(seconds=-1)) == 1
    assert not kept.exists()


async def test_what_lies_in_the_store_is_said_as_a_step(
    mesh_redis: Any, mesh_keys: Keys, mesh_settings: MeshSettings
) -> None:
    call = DurableCalls(mesh_keys, mesh_settings).record(REF, QueuePlace("shop"), 1, "a", "stored", b"{}", 1)
    assert not any("stored" in str(part) for part in call.args if "step" in str(part) and "task" in str(part))
    assert (await lua.run(mesh_redis, call)).verdict == "lost"


def settings(url: str | None) -> MeshSettings:
    return MeshSettings(_env_file=None, redis_url="redis://127.0.0.1:1/0", store_url=url)


def run(settings: MeshSettings, row: Any = None, ask: Any = None) -> Run:
    calls = DurableCalls(Keys("m"), settings)
    calls.claims.tidy_in_time = lambda service: None  # type: ignore[method-assign]
    wants = Subscription("shop", "shop.big", "order.placed")
    return Run(calls, sync_driver(ask or _nothing), wants, REF, QueuePlace("shop", entry="1-0"), 1, row or {})


def _nothing(call: Any) -> Any:
    raise AssertionError("no call is to be made")


def text() -> str:
    return LARGE


def test_a_kill_before_the_record_leaves_an_object_that_nobody_names_and_the_next_attempt_keeps_the_same(
    tmp_path: Path,
) -> None:
    settled = settings(str(tmp_path))

    def killed(call: Any) -> Any:
        raise SystemExit

    with pytest.raises(SystemExit):
        run(settled, ask=killed).step("a", text, (), {}, 0)
    [left] = (tmp_path / "claims" / "mesh" / "shop" / REF.task_id).iterdir()

    def recorded(call: Any) -> Any:
        return StepAnswer("done", StepRecord(1, "stored", call.args[call.args.index("stored") + 1]))

    assert run(settled, ask=recorded).step("a", text, (), {}, 0) == LARGE
    assert list((tmp_path / "claims" / "mesh" / "shop" / REF.task_id).iterdir()) == [left]


def test_a_result_that_another_attempt_recorded_first_is_read_from_the_store(tmp_path: Path) -> None:
    settled = settings(str(tmp_path))
    ticket = ClaimCheck(settled).put("shop", REF.task_id, b'"earlier"')
    answer = StepAnswer("done", StepRecord(1, "stored", ticket))
    assert run(settled, ask=lambda call: answer).step("a", text, (), {}, 0) == "earlier"


def test_without_a_store_it_is_refused_with_what_to_set() -> None:
    with pytest.raises(Fail, match="300,002 bytes, and 65,536 can be recorded in Redis; set MESH_STORE_URL"):
        run(settings(" ")).step("a", text, (), {}, 0)


def test_a_record_in_the_store_met_by_a_worker_without_one_says_so() -> None:
    row = {b"step:a": b'1 stored {"claim":"claims/m/shop/%b/%b"}' % (REF.task_id.encode(), b"0" * 64)}
    with pytest.raises(Fail, match="MESH_STORE_URL names none here"):
        run(settings(None), row).step("a", text, (), {}, 0)


def test_a_store_that_is_away_fails_the_attempt_after_some_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_check, "PAUSES", (0.0, 0.0))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreAway, match="did not take a result"):
        run(settings(str(tmp_path / "file"))).step("a", text, (), {}, 0)


@pytest.mark.parametrize(
    "ticket, says",
    [
        (b"{", "cannot be read"),
        (b'{"claim":"../../etc/passwd"}', "cannot be read"),
        (b'{"claim":7}', "cannot be read"),
        (b'{"claim":"claims/m/shop/t/' + b"0" * 64 + b'"}', "does not have"),
        (b'{"claim":"claims/m/shop/t/' + b"1" * 64 + b'"}', "is not what was kept"),
    ],
)
def test_a_ticket_that_leads_nowhere_is_given_up(tmp_path: Path, ticket: bytes, says: str) -> None:
    (tmp_path / "claims" / "m" / "shop" / "t").mkdir(parents=True)
    (tmp_path / "claims" / "m" / "shop" / "t" / ("1" * 64)).write_text('"other"')
    with pytest.raises(Fail, match=says):
        run(settings(str(tmp_path)), {b"step:a": b"1 stored " + ticket}).step("a", text, (), {}, 0)
