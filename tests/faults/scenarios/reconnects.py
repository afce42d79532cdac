"""Clients whose connections are cut at random bytes while much is told: each hears all of it, in order and once."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from streammesh.client import MeshClient
from streammesh.client.sse import SseParser
from streammesh.notifications import position_key

from tests.faults.arena import API_KEY, Arena
from tests.faults.proxy import Proxy
from tests.faults.report import Row
from tests.faults.stage import Stage

NAME = "clients reconnect"
TYPE = "heard.much"  # nobody subscribes to it, so each event is told once: `event.unrouted`
EVENTS_A_SECOND, BATCH = 500, 25
LONGEST = 30_000  # bytes of answers until a connection is cut
PATIENCE = 60.0  # seconds until all have heard the last one
HEADERS = {"Authorization": f"Bearer {API_KEY}"}
SCRIPT = Path(__file__).parents[1] / "follower.mjs"
Heard = list[str]


async def run(stage: Stage) -> Row:
    """Two replicas behind a balancer that cuts; publishers reach them without."""
    cuts = stage.pick(quick=100, normal=1_000)
    async with stage.arena() as arena:
        await arena.add("dispatcher")
        await arena.add_api(2)
        await arena.ready()
        async with Proxy(arena.apis, stage.seed, in_turn=True) as door:
            door.cut_replies = LONGEST
            url = f"http://127.0.0.1:{door.port}"
            heard: dict[str, Heard] = {name: [] for name in FOLLOWERS}
            following = {
                name: asyncio.create_task(follow(url, heard[name])) for name, follow in FOLLOWERS.items()
            }
            began = time.monotonic()
            events = await _publish(arena, lambda: door.cuts >= cuts)
            seconds = time.monotonic() - began
            told = await _told(arena, events)
            late = await _until_heard(heard, told[-1])
            for task in following.values():
                task.cancel()
            ended = await asyncio.gather(*following.values(), return_exceptions=True)
            made = door.cuts
    remarks = [
        f"{made:,} connections cut, {events / seconds:.0f} events a second; followers: {', '.join(FOLLOWERS)}"
    ]
    if NODE is None:
        remarks.append("Node is not there, so the TypeScript client was not among them")
    lost = [
        f"{name} was not told {len(gone)} of {len(told)}"
        for name in heard
        if (gone := set(told) - {*heard[name]})
    ]
    lost += [repr(error) for error in ended if isinstance(error, Exception)]
    doubled = [
        f"{name} was told {len(seen) - len(set(seen))} twice, or not in order"
        for name, seen in heard.items()
        if seen != sorted(set(seen), key=position_key)
    ]
    passed = not lost and not doubled and made >= cuts
    return Row(
        NAME, made, events, len(lost), len(doubled), round(late, 3), passed, remarks, [*lost, *doubled]
    )


async def _publish(arena: Arena, enough: Callable[[], bool]) -> int:
    """Publish at an even rate until enough was cut; return how many."""
    events, began = 0, time.monotonic()
    async with MeshClient(arena.url, api_key=API_KEY, source="heard") as mesh:
        while not enough():
            await mesh.publish_many([{"type": TYPE, "data": {"n": events + n}} for n in range(BATCH)])
            events += BATCH
            await asyncio.sleep(max(0.0, began + events / EVENTS_A_SECOND - time.monotonic()))
    return events


async def _told(arena: Arena, events: int) -> list[str]:
    """The positions of what is told about the events, once it is as much as there are events."""
    until = time.monotonic() + PATIENCE
    while True:
        entries = await arena.client.xrange(arena.keys.notifications())
        told = [position.decode() for position, fields in entries if fields.get(b"y") == TYPE.encode()]
        if len(told) >= events or time.monotonic() > until:
            return told
        await asyncio.sleep(0.2)


async def _until_heard(heard: dict[str, Heard], last: str) -> float:
    """Wait until all have heard the last one; return how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE and not all(seen[-1:] == [last] for seen in heard.values()):
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def _python(url: str, heard: Heard) -> None:
    async with (
        MeshClient(url, api_key=API_KEY) as mesh,
        aclosing(mesh.notifications(type=TYPE, after="0-0")) as notes,
    ):
        async for note in notes:
            heard.append(note.id or note.type)


async def _sse(url: str, heard: Heard) -> None:
    """By hand, as a browser does it: `Last-Event-ID` of the last whole block."""
    last = "0-0"

    async def once(session: aiohttp.ClientSession) -> None:
        nonlocal last
        parser, headers = SseParser(), {"Last-Event-ID": last}
        async with session.get(f"{url}/v1/notifications", params={"type": TYPE}, headers=headers) as answer:
            answer.raise_for_status()
            async for chunk in answer.content.iter_any():
                for event in parser.feed(chunk):
                    if event.event != "closed":
                        heard.append(str(orjson.loads(event.data).get("id", event.event)))
                last = parser.last_id or last

    await _again_and_again(once)


async def _web_socket(url: str, heard: Heard) -> None:
    """By hand: subscribed again after the position of the last whole frame."""
    last = "0-0"

    async def once(session: aiohttp.ClientSession) -> None:
        nonlocal last
        async with session.ws_connect(f"{url}/v1/notifications/ws") as socket:
            await socket.send_json({"type": "subscribe", "id": "a", "glob": TYPE, "after": last})
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    frame: dict[str, Any] = orjson.loads(message.data)
                    last = frame.get("position") or last
                    if frame["type"] in ("notification", "resync", "error"):
                        heard.append(frame.get("position") or str(frame))

    await _again_and_again(once)


async def _again_and_again(once: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
    """Each time with a connection of its own."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=45)
    while True:
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with aiohttp.ClientSession(headers=HEADERS, timeout=timeout) as session:
                await once(session)
        await asyncio.sleep(0.02)


async def _typescript(url: str, heard: Heard) -> None:
    node = await asyncio.create_subprocess_exec(
        str(NODE), str(SCRIPT), url, API_KEY, TYPE, stdout=subprocess.PIPE, limit=1 << 20
    )
    assert node.stdout
    try:
        async for line in node.stdout:
            heard.append(line.decode().strip())
        raise RuntimeError("Node ended by itself")
    finally:
        with suppress(ProcessLookupError):
            node.kill()
        await node.wait()


NODE = shutil.which("node")
FOLLOWERS: dict[str, Callable[[str, Heard], Coroutine[Any, Any, None]]] = {
    "SSE": _sse,
    "WebSocket": _web_socket,
    "Python": _python,
    **({"TypeScript": _typescript} if NODE else {}),
}
