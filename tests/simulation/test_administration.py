"""Errands of people who want different schedules: they come to an end, and what does not stand is not taken for done."""

from __future__ import annotations

import asyncio
from typing import Any

from streammesh import lua
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.schedules import Change
from streammesh.schedules.store import read_call, store_call
from streammesh.settings import MeshSettings

from tests.simulation.administration import Wishes, entry
from tests.simulation.operators import Errand, NotYet

OFTEN, SELDOM, OTHER = entry("often", "1s"), entry("often", "2s"), entry("other", "1s")


async def is_done(errand: Errand, client: Any) -> bool:
    try:
        await errand(client)
    except NotYet:
        return False
    return True


async def remove(client: Any, keys: Keys) -> None:
    _, stored = await lua.run(client, read_call(keys))
    await lua.run(
        client, store_call(keys, [Change(name, had.raw, b"", "none") for name, had in stored.items()])
    )


def test_two_who_want_different_schedules_do_not_undo_each_others_for_ever(
    mesh_settings: MeshSettings, mesh_keys: Keys
) -> None:
    async def play() -> None:
        client, wishes = open_async(mesh_settings, "test"), Wishes(mesh_keys, [])
        one, other = wishes.sync(SELDOM, OTHER), wishes.sync(OFTEN)
        assert not await is_done(one, client)
        assert not await is_done(other, client)  # it undid what the first one had stored, and cannot know yet
        assert await is_done(one, client)
        assert await is_done(other, client)
        _, stored = await lua.run(client, read_call(mesh_keys))
        assert [had.raw for had in stored.values()] == [OFTEN.to_json()]
        await client.aclose()

    asyncio.run(play())


def test_a_change_that_nobody_overruled_has_to_stand(mesh_settings: MeshSettings, mesh_keys: Keys) -> None:
    async def play() -> None:
        client, wishes = open_async(mesh_settings, "test"), Wishes(mesh_keys, [])
        assert not await is_done(wishes.sync(SELDOM), client)  # somebody else's, of before
        mine = wishes.sync(OFTEN)
        for _ in range(3):
            assert not await is_done(mine, client)
            await remove(
                client, mesh_keys
            )  # nobody's errand: as if the store had been answered and not been made
        assert not await is_done(mine, client)
        assert await is_done(mine, client)
        await client.aclose()

    asyncio.run(play())


def test_what_was_overruled_before_the_server_forgot_is_stored_again(
    mesh_settings: MeshSettings, mesh_keys: Keys
) -> None:
    async def play() -> None:
        losses: list[int] = []
        client, wishes = open_async(mesh_settings, "test"), Wishes(mesh_keys, losses)
        mine = wishes.sync(SELDOM)
        assert not await is_done(mine, client)
        assert not await is_done(wishes.sync(OFTEN), client)
        losses.append(1)
        assert not await is_done(mine, client)
        assert await is_done(mine, client)
        await client.aclose()

    asyncio.run(play())
