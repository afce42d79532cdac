"""Whether an event costs more when many wait, and what many subscribing services cost."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass

from streammesh import Service
from streammesh.lua import run
from streammesh.schedules import Change, ScheduleEntry, parse_entry
from streammesh.schedules.store import BEAT, store_call

from benchmarks.arena import Arena, arena, until
from benchmarks.machine import cpu_seconds
from benchmarks.measuring import Results
from benchmarks.throughput import DISPATCHER, handed_over
from benchmarks.workers import async_worker
from tests.harness.processes import MeshProcess

BURSTS, BURST = 20, 1_000  # events are handed over in bursts, and counted only while they are
WARM_UP = 2_000
SERVICES = (1, 10, 50)
ROUTED = (1, 100)
SCHEDULERS = (1, 2)
DUE_IN = 10  # seconds, in which the schedules are stored


@dataclass
class Spent:
    """What handing over `tasks` cost: time, and CPU time of the dispatcher and the server together."""

    tasks: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    server_mb: float = 0.0  # of data in the server when it began

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU a task."""
        return 1e6 * self.cpu / self.tasks

    @property
    def time_us(self) -> float:
        """Microseconds a task."""
        return 1e6 * self.seconds / self.tasks


async def _hand_over(mesh: Arena, dispatcher: MeshProcess, least: int, cost: Spent) -> None:
    """Let a stopped dispatcher go on until it has handed over `least` more, and stop it again."""
    before, cpu = await handed_over(mesh), _cpu(mesh, dispatcher)
    began = time.perf_counter()
    dispatcher.signal(signal.SIGCONT)

    async def enough() -> bool:
        return await handed_over(mesh) >= before + least

    await until(enough, pause=0.002)
    dispatcher.signal(signal.SIGSTOP)
    cost.tasks += await handed_over(mesh) - before
    cost.seconds += time.perf_counter() - began
    cost.cpu += _cpu(mesh, dispatcher) - cpu


def _cpu(mesh: Arena, dispatcher: MeshProcess) -> float:
    return cpu_seconds(mesh.server.pid) + cpu_seconds(dispatcher.pid)


async def _at_backlog(backlog: int) -> Spent:
    async with arena() as mesh:
        await mesh.register(async_worker.service)
        await mesh.publish("bench.noop", WARM_UP, small=True)
        [dispatcher] = await mesh.start(DISPATCHER)
        await _hand_over(mesh, dispatcher, WARM_UP, Spent())
        cost, waiting = Spent(), 0
        for _ in range(BURSTS):
            if waiting < backlog * 0.9:
                await mesh.publish("bench.noop", backlog - waiting, small=True)
                waiting = backlog
                memory = await mesh.redis.info("memory")
                cost.server_mb = cost.server_mb or memory["used_memory"] / 2**20
            done = cost.tasks
            await _hand_over(mesh, dispatcher, BURST, cost)
            waiting -= cost.tasks - done
        return cost


async def backlog(results: Results, size: int) -> None:
    """`scale.backlog.ratio`: CPU of dispatcher and server for an event when `size` wait, by that when 1,000 do."""
    costs = {}
    for name, waiting in (("1k", BURST), ("100k", max(BURST, size // 10)), ("1m", max(BURST, size))):
        costs[name] = await _at_backlog(waiting)
        results.add(f"scale.backlog.{name}.cpu", "µs/event", costs[name].cpu_us)
        results.add(f"scale.backlog.{name}.time", "µs/event", costs[name].time_us)
        results.add(f"memory.server.backlog.{name}", "MB", costs[name].server_mb)
    results.add("scale.backlog.ratio", "×", costs["1m"].cpu_us / costs["1k"].cpu_us)
    results.add("scale.backlog.ratio.time", "×", costs["1m"].time_us / costs["1k"].time_us)


def _subscriber(n: int) -> Service:
    service = Service(f"bench_{n}")

    @service.on("bench.noop")
    async def noop() -> None:
        """Do nothing."""

    return service


async def services(results: Results, size: int) -> None:
    """`scale.services.N`: deliveries a second that one dispatcher hands over when N services want each event."""
    for n in SERVICES:
        async with arena() as mesh:
            for number in range(n):
                await mesh.register(_subscriber(number))
            await mesh.publish("bench.noop", n, small=True)
            [dispatcher] = await mesh.start(DISPATCHER)
            await _hand_over(mesh, dispatcher, n * n, Spent())  # every lane is there and warm
            each = max(1, size // n)
            await mesh.publish("bench.noop", each)
            cost = Spent()
            await _hand_over(mesh, dispatcher, each * n, cost)
            results.add(f"scale.services.{n}", "deliveries/s", cost.tasks / cost.seconds)
            results.add(f"scale.services.{n}.cpu", "µs/delivery", cost.cpu_us)


def _bystander(n: int) -> Service:
    service = Service(f"bench_bystander_{n}")

    @service.on("bench.other")
    async def other() -> None:
        """Want another type of the same domain."""

    return service


async def route(results: Results, size: int) -> None:
    """`route.1ofN`: one service wants every event, and N - 1 want others of its domain. `.ratio`: CPU, by that of N = 1."""
    costs = {}
    for n in ROUTED:
        async with arena() as mesh:
            await mesh.register(async_worker.service)
            for number in range(n - 1):
                await mesh.register(_bystander(number))
            await mesh.publish("bench.noop", WARM_UP, small=True)
            [dispatcher] = await mesh.start(DISPATCHER)
            await _hand_over(mesh, dispatcher, WARM_UP, Spent())
            await mesh.publish("bench.noop", size)
            costs[n] = Spent()
            await _hand_over(mesh, dispatcher, size, costs[n])
            results.add(f"route.1of{n}", "events/s", costs[n].tasks / costs[n].seconds)
            results.add(f"route.1of{n}.cpu", "µs/event", costs[n].cpu_us)
    results.add("route.1of100.ratio", "×", costs[100].cpu_us / costs[1].cpu_us)


async def schedules(results: Results, size: int) -> None:
    """`schedules.late`: how late the ticks of many schedules are that are due at one moment, with two schedulers."""
    for count in SCHEDULERS:
        async with arena() as mesh:
            await mesh.start("services.scheduler", count=count)
            while await mesh.redis.zcard(mesh.keys.alive(BEAT)) < count:
                await asyncio.sleep(0.1)
            seconds, _ = await mesh.redis.time()
            due_ms = (seconds + DUE_IN) * 1000
            for first in range(0, size, 1_000):
                changes = [
                    Change(f"s{n}", b"", _schedule(n).to_json(), due_ms)
                    for n in range(first, min(size, first + 1_000))
                ]
                await run(mesh.redis, store_call(mesh.keys, changes))

            async def all_ticked() -> bool:
                return int(await mesh.redis.xlen(mesh.keys.events("bench"))) >= size

            await until(all_ticked, pause=0.1)
            entries = await mesh.redis.xrange(mesh.keys.events("bench"))
            late = sorted(int(position.partition(b"-")[0]) - due_ms for position, _ in entries)
            name = f"schedules.late.{count}p"
            results.add(f"{name}.p50", "ms", late[len(late) // 2])
            results.add(f"{name}.p99", "ms", late[len(late) * 99 // 100])


def _schedule(n: int) -> ScheduleEntry:
    return parse_entry({"name": f"s{n}", "every": "60s", "event": {"type": "bench.due", "data": {"n": n}}})
