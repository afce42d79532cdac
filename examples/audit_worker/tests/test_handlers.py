"""Events that the audit worker is given, and the entries that they become."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from streammesh import Event, Reject

from ..handlers import OrderPlaced, journal, record_order, record_user


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AUDIT_FILE", str(tmp_path / "log" / "audit.jsonl"))
    journal.cache_clear()
    yield
    journal.cache_clear()


def attempt(event_type: str = "order.placed", number: int = 1, **attributes: Any) -> Any:
    """As much of a Context as the handlers use; what they publish is kept in `published`."""
    event = Event(id="e1", source="shop", type=event_type, time="2026-11-22T06:00:00Z", **attributes)
    published: list[tuple[str, Any]] = []
    return SimpleNamespace(
        event=event,
        task_id="task-1",
        attempt=number,
        published=published,
        publish=lambda *what: published.append(what),
    )


async def test_an_order_becomes_one_entry_and_an_event() -> None:
    ctx = attempt(subject="order/7")

    result = await record_order(OrderPlaced(order_id=7, total=9.5), ctx)

    assert result == {"order_id": 7}
    assert ctx.published == [("order.recorded", {"order_id": 7})]
    assert journal().entries() == [
        {
            "id": "task-1",
            "event": "e1",
            "source": "shop",
            "type": "order.placed",
            "subject": "order/7",
            "time": "2026-11-22T06:00:00Z",
            "order_id": 7,
            "total": 9.5,
        }
    ]


async def test_a_negative_total_is_rejected_and_not_recorded() -> None:
    with pytest.raises(Reject, match="negative total"):
        await record_order(OrderPlaced(order_id=7, total=-1), attempt())
    assert journal().entries() == []


async def test_an_attempt_after_a_crash_does_not_record_a_second_time() -> None:
    await record_order(OrderPlaced(order_id=7, total=9.5), attempt())
    again = attempt(number=2)

    await record_order(OrderPlaced(order_id=7, total=9.5), again)

    assert len(journal().entries()) == 1
    assert again.published == [("order.recorded", {"order_id": 7})]


async def test_of_a_user_only_the_fact_is_recorded() -> None:
    data = {"email": "ann@example.com"}
    ctx = attempt("user.registered", subject="user/42", data=data)

    assert await record_user(ctx.event, ctx) == {"subject": "user/42"}

    [entry] = journal().entries()
    assert (entry["type"], entry["subject"]) == ("user.registered", "user/42")
    assert "ann@example.com" not in journal().path.read_text()
