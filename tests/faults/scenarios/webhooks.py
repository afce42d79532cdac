"""Webhooks: workers that are killed forget no delivery, and a thousand dead URLs do not slow the living."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

from streammesh.api_keys import ApiKeys
from streammesh.notifications import position_key
from streammesh.testing.conditions import wait_until
from streammesh.webhooks.definition import Secret, Webhook
from streammesh.webhooks.signature import new_secret
from streammesh.webhooks.store import WebhookStore

from tests.faults.arena import Arena
from tests.faults.processes import Part
from tests.faults.receivers import DEAD, Receivers, receiving
from tests.faults.report import Row
from tests.faults.stage import Stage, kill_in_turn

KILLED, DEAD_URLS = "webhook workers killed", "dead webhooks"
MODULE = "services.webhook_worker"
OPEN = '["127.0.0.0/8"]'
FIELDS = {"t": "task.started", "e": "e", "k": "", "v": "w", "y": "fault.told", "u": ""}
BODY = '"event":{"id":"e","type":"fault.told","source":"s","subject":null},"task":null,"data":{}'
PATIENCE = 90.0  # seconds until all has arrived
A_SECOND = 2
SLOWER = 1.0  # seconds that the dead may add to what the living wait in the middle
Told = list[str]


async def killed(stage: Stage) -> Row:
    """Two workers are killed in turn while much is told; receivers refuse a part. Each delivery arrives, none is forgotten."""
    kills, seconds, a_second = stage.pick(quick=(20, 15.0, 60), normal=(100, 100.0, 60))
    async with stage.arena() as arena, receiving(refuses=0.05) as there:
        names = ["a", "b", "c", "ordered"]
        await _add(arena, there, "living", names)
        workers = await _workers(arena, 2, WEBHOOK_TIMEOUT="500ms", WEBHOOK_RETRY_FIRST="50ms")
        published = asyncio.Event()
        killing = asyncio.create_task(kill_in_turn(arena, workers, kills, seconds, published))
        told: Told = []
        while not killing.done():
            told += await _tell(arena, a_second // 10)
            await asyncio.sleep(0.1)
        await killing
        began = time.monotonic()
        lost = await _until_taken(there, names, told)
        late = time.monotonic() - began
        order = [delivery.rpartition("_")[2].partition(".") for delivery in there.taken.get("ordered", {})]
    doubled = [
        "the ordered webhook was not told in its order"
        for shard in {shard for _, _, shard in order}
        if (its := [position for position, _, one in order if one == shard]) != sorted(its, key=position_key)
    ]
    # At least once is the promise: what a killed worker had sent and not noted is sent again, with the same id.
    remarks = [
        f"{len(told) * len(names):,} deliveries to {len(names)} URLs; {there.repeated:,} came once more, with their own id"
    ]
    passed = not lost and not doubled
    return Row(
        KILLED, len(arena.kills), len(told), len(lost), len(doubled), round(late, 3), passed, remarks, [*lost, *doubled]
    )  # fmt: skip


async def dead_urls(stage: Stage) -> Row:
    """Twenty URLs that work are told beside a thousand that do not, of every kind; without and with them."""
    count, told_each = stage.pick(quick=(200, 30), normal=(1_000, 60))
    names = [f"living{n}" for n in range(20)]
    async with stage.arena() as arena, receiving() as there:
        await _add(arena, there, "living", names)
        await _workers(arena, 1)
        await _until_taken(there, names, await _tell(arena, 1))
        alone = await _even(arena, told_each)
        lost = await _until_taken(there, names, alone)
        for number, kind in enumerate(DEAD):
            await _add(
                arena,
                there,
                kind,
                [f"{kind}{n}" for n in range(count // len(DEAD) + (number < count % len(DEAD)))],
            )
        await wait_until("all stand where the others do", lambda: _none_behind(arena), seconds=PATIENCE)
        beside = await _even(arena, told_each)
        lost += await _until_taken(there, names, beside)
        asked, followed, repeated = there.dead_asked, there.followed, there.repeated
        arena.look_for_dead()
    before, after = _waits(there, names, alone), _waits(there, names, beside)
    remarks = [
        f"{len(names)} living URLs beside {count:,} dead at {A_SECOND} notifications a second ({', '.join(DEAD)}; asked {asked:,} times): "
        f"{statistics.median(after):.3f} s in the middle and {max(after):.3f} s at most, "
        f"where it was {statistics.median(before):.3f} s and {max(before):.3f} s without them"
    ]
    wrong = [f"{followed} redirects were followed"] if followed else []
    if statistics.median(after) > statistics.median(before) + SLOWER:
        wrong.append(f"the living waited more than {SLOWER:g} s longer in the middle")
    if not asked:
        wrong.append("no dead URL was asked")
    if repeated:  # where an answer came too late for the worker; at least once is the promise
        remarks.append(f"{repeated} deliveries came twice")
    passed = not lost and not wrong
    events = len(alone) + len(beside)
    found = [*lost, *wrong]
    return Row(DEAD_URLS, 0, events, len(lost), 0, round(max(after), 3), passed, remarks, found)


async def _add(arena: Arena, there: Receivers, kind: str, names: Sequence[str]) -> None:
    """Webhooks that want all; the one called `ordered` in its order."""
    await ApiKeys(arena.client, arena.keys).create("shop", admin=True, how="replace")
    for shard, place in enumerate(arena.places):
        store = WebhookStore(place.client, place.keys)
        start = b"0-0"
        if kind != "living":
            start = (await place.client.xinfo_stream(place.keys.notifications()))["last-generated-id"]
        for name in names:
            webhook = Webhook(
                name,
                there.url(kind, name),
                "shop",
                ordered=name == "ordered",
                secrets=(Secret(new_secret()),),
                shard=shard,
            )
            assert await store.put(webhook, start=start.decode()) == "stored"


async def _workers(arena: Arena, count: int, **env: str) -> list[Part]:
    workers = await arena.add("webhook_worker", count, module=MODULE, WEBHOOK_ALLOW_PRIVATE=OPEN, **env)
    await arena.ready()
    return workers


async def _none_behind(arena: Arena) -> bool:
    return not any([await place.client.exists(place.keys.webhooks_behind()) for place in arena.places])


async def _tell(arena: Arena, count: int) -> Told:
    """Tell as the scripts do, `count` times in each shard; return the positions, as ids of deliveries have them."""
    told: Told = []
    for shard, place in enumerate(arena.places):
        pipeline = place.client.pipeline(transaction=False)
        for _ in range(count):
            pipeline.xadd(place.keys.notifications(), {**FIELDS, "b": BODY})
        ending = f".{shard}" if shard else ""
        told += [position.decode() + ending for position in await pipeline.execute()]
    return told


async def _even(arena: Arena, count: int) -> Told:
    """Tell `A_SECOND` a second: to a thousand webhooks that is two thousand deliveries."""
    told: Told = []
    for _ in range(count):
        told += await _tell(arena, 1)
        await asyncio.sleep(1 / A_SECOND)
    return told


async def _until_taken(there: Receivers, names: Sequence[str], told: Told) -> list[str]:
    """Wait until all of it has come to each of the living; return what has not."""
    until = time.monotonic() + PATIENCE
    while True:
        missing = {
            name: [one for one in told if f"{name}_{one}" not in there.taken.get(name, {})] for name in names
        }
        if not any(missing.values()) or time.monotonic() > until:
            break
        await asyncio.sleep(0.1)
    return [
        f"{len(gone)} of {len(told)} never came to {name}: {gone[0]}"
        for name, gone in missing.items()
        if gone
    ]


def _waits(there: Receivers, names: Sequence[str], told: Told) -> list[float]:
    """Seconds from what is told, by the server's time, to each arrival at a URL that works."""
    arrived = ((there.taken.get(name, {}).get(f"{name}_{one}"), one) for name in names for one in told)
    return [at - position_key(one.partition(".")[0])[0] / 1000 for at, one in arrived if at is not None] or [
        PATIENCE
    ]
