"""What a sleeping run costs: so many bytes of Redis, and no place of a worker."""

from __future__ import annotations

from typing import Any

from streammesh import Context, Service
from streammesh.testing import Mesh
from streammesh.testing.conditions import wait_until

MANY = 500
MOST_BYTES = 1_536  # of one: its row, its queue entry in the due set, its place among the open tasks

service = Service("shop_worker")


@service.on("order.placed")
async def remind(data: Any, ctx: Context) -> str:
    await ctx.step("charge", str, 250)
    await ctx.sleep("30d")
    return "reminded"


def test_sleeping_runs_cost_one_and_a_half_kibibytes_each_and_no_place_of_a_worker(mesh: Mesh) -> None:
    mesh.run(service)

    async def measured() -> tuple[float, int]:
        for n in range(MANY):
            await mesh._publisher.publish("order.placed", {"order_id": n, "cents": 250})
        due = mesh.keys.due()

        async def asleep() -> bool:
            return int(await mesh._client.zcard(due)) == MANY

        await wait_until("all sleep", asleep, seconds=30)
        shared = (due, mesh.keys.due_entries(), mesh.keys.open_tasks("shop_worker"))
        rows = [key async for key in mesh._client.scan_iter(match=f"{mesh.keys.task('')}*", count=1_000)]
        assert len(rows) == MANY
        used = sum([await mesh._client.memory_usage(key, samples=0) or 0 for key in (*shared, *rows)])
        pending = await mesh._client.xpending(mesh.keys.queue("shop_worker"), "workers")
        return used / MANY, int(pending["pending"])

    each, held = mesh._ask(measured()).get(60)
    print(f"{each:,.0f} bytes of Redis for each of {MANY} sleeping runs")
    assert held == 0 and mesh._workers[0].is_idle
    assert each <= MOST_BYTES
