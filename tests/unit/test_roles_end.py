"""A role that loses a cancellation is cancelled again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from streammesh import roles


async def test_a_role_that_lost_its_cancellation_ends_all_the_same(monkeypatch):
    monkeypatch.setattr(roles, "CANCEL_AGAIN", 0.01)
    began = asyncio.Event()

    async def role() -> None:
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(role())
    await began.wait()
    async with asyncio.timeout(5):
        await roles.end([task])
    assert task.cancelled()
