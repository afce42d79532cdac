"""Events that the audit worker is given, and the entries that they become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streammesh import Reject
from streammesh.testing import TrialContext

from ..handlers import OrderPlaced, journal, record_order, record_user


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AUDIT_FILE", str(tmp_path / "log" / "audit.jsonl"))
    journal.cache_clear()
    yield
    journal.cache_clear()


async def test_an_order_becomes_one_entry_and_an_event() -> None:
    ctx = TrialContext("order.placed", subject="order/7")

    result = await record_order(OrderPlaced(order_id=7, total=9.5), ctx)

    assert result == {"order_id": 7}
    [recorded] = ctx.follow_ups
    assert (recorded.type, recorded.data, recorded.subject) == ("order.recorded", {"order_id": 7}, "order/7")
    assert journal().entries() == [
        {
            "id": ctx.task_id,
            "event": ctx.event.id,
            "source": "tests",
            "type": "order.placed",
            "subject": "order/7",
            "time": ctx.event.time,
            "order_id": 7,
            "total": 9.5,
        }
    ]


async def test_a_negative_total_is_rejected_and_not_recorded() -> None:
    with pytest.raises(Reject, match="negative total"):
        await record_order(OrderPlaced(order_id=7, total=-1), TrialContext("order.placed"))
    assert journal().entries() == []


async def test_an_attempt_after_a_crash_does_not_record_a_second_time() -> None:
    order = OrderPlaced(order_id=7, total=9.5)
    await record_order(order, TrialContext("order.placed", task_id="task-1"))
    again = TrialContext("order.placed", task_id="task-1", attempt=2)

    await record_order(order, again)

    assert [entry["id"] for entry in journal().entries()] == ["task-1"]
    assert [event.type for event in again.follow_ups] == ["order.recorded"]


async def test_of_a_user_only_the_fact_is_recorded() -> None:
    ctx = TrialContext("user.registered", {"email": "ann@example.com"}, subject="user/42")

    assert await record_user(ctx.event, ctx) == {"subject": "user/42"}

    [entry] = journal().entries()
    assert (entry["type"], entry["subject"]) == ("user.registered", "user/42")
    assert "ann@example.com" not in journal().path.read_text()
