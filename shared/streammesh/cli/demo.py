"""`streammesh demo`: the main job, once, through the front door, with what was pushed back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from streammesh.client import ApiError, MeshClient, Note
from streammesh.errors import MeshError

START_SECONDS = 60.0
STOP_SECONDS = 40.0
WORK_SECONDS = 50.0
USER = {"user_id": 42, "email": "ada@example.com", "name": "Ada Lovelace"}
REPORT = {
    "title": "Wildlife strikes by airport",
    "source": {"dataset": "wildlife-strikes"},
    "group_by": "state",
    "aggregate": "count",
    "recipient": "ada@example.com",
}


def command(
    folder: Annotated[Path, typer.Option(help="Where data, mails and reports are kept.")] = Path("var/demo"),
    url: Annotated[str | None, typer.Option(help="A mesh that runs already; else one is started.")] = None,
    key: Annotated[str | None, typer.Option(help="API key for --url.", envvar="STREAMMESH_KEY")] = None,
) -> None:
    """Do the main job once, through the front door, and show what was pushed back."""
    raise typer.Exit(demo(Path.cwd(), folder.resolve(), url, key))


def demo(root: Path, folder: Path, url: str | None, key: str | None) -> int:
    """Run the demo against a mesh that runs, or one started for it; answers the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        if url:
            return asyncio.run(_show(console, url, key or "", None))
        with _mesh(console, root, folder) as place:
            key = Path(place["key_file"]).read_text().strip()
            return asyncio.run(_show(console, place["api_url"], key, place))
    except (MeshError, TimeoutError) as error:
        console.print(f"[bold red]The demo failed:[/] {error}")
        return 1


@contextmanager
def _mesh(console: Console, root: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """A whole mesh as `streammesh up` runs it, stopped at the end; its log is kept in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "up.json", folder / "up.log"
    ready.unlink(missing_ok=True)
    console.print("[bold]1. Starting the mesh[/]: Redis, API, dispatcher, workers, scheduler, a mail catcher")
    began = time.monotonic()
    with log.open("wb") as out:
        mesh = subprocess.Popen(
            [sys.executable, "-m", "streammesh.cli", "up", "--folder", str(folder)],
            cwd=root, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        while not ready.exists():
            if mesh.poll() is not None or time.monotonic() - began > START_SECONDS:
                last = "\n   ".join(log.read_text("utf-8", "replace").splitlines()[-12:])
                raise TimeoutError(f"the mesh did not start; the end of {log} says:\n   {last}")
            time.sleep(0.05)
        place = orjson.loads(ready.read_bytes())
        console.print(f"   ready after {time.monotonic() - began:.1f} s; its log is in {_short(log)}")
        yield place
    finally:
        mesh.send_signal(signal.SIGINT)
        try:
            mesh.wait(STOP_SECONDS)
            console.print(f"   The mesh has stopped (exit code {mesh.returncode}); no process is left.")
        except subprocess.TimeoutExpired:
            mesh.kill()
            console.print("[bold red]   The mesh did not stop in time and was killed.[/]")


async def _show(console: Console, url: str, key: str, place: dict[str, Any] | None) -> int:
    async with MeshClient(url, api_key=key) as mesh:
        console.print("\n[bold]2. Saying what happened[/]: two events over HTTP")
        registered = await mesh.publish("user.registered", USER, subject="user/42")
        console.print(f"   POST /v1/events  user.registered   -> 202, event {registered.id}")
        requested = await mesh.publish("report.requested", REPORT, subject="user/42")
        console.print(f"   POST /v1/events  report.requested  -> 202, event {requested.id}")
        again = await mesh.publish("user.registered", USER, subject="user/42", id=registered.id)
        console.print(f"   the first one once more, as after a lost answer: duplicate = {again.duplicate}")

        console.print("\n[bold]3. What is pushed back[/], as it happens (server-sent events)")
        began = time.monotonic()
        try:
            async with asyncio.timeout(WORK_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(_follow(console, mesh, registered.id, began))
                report = group.create_task(_follow(console, mesh, requested.id, began))
                mail = group.create_task(_follow_report_mail(console, mesh, requested.id, began))
        except* ApiError as errors:
            raise errors.exceptions[0] from None
        except* TimeoutError:
            raise TimeoutError(f"not everything had ended after {WORK_SECONDS:.0f} s") from None
        failed = [n for n in (*report.result(), *mail.result()) if n.type == "task.failed"]
        await _where(console, mesh, url, requested.id, place)
        return 1 if failed else 0


async def _follow(console: Console, mesh: MeshClient, event_id: str, began: float) -> list[Note]:
    notes = []
    async for note in mesh.notifications(event=event_id):
        notes.append(note)
        _print(console, note, began)
    return notes


async def _follow_report_mail(console: Console, mesh: MeshClient, requested: str, began: float) -> list[Note]:
    """The report's own event, published by the worker, is an event like any other: follow it too."""
    while True:
        shown = await mesh.event(requested)
        found = [event for task in shown.tasks for event in task.events if event.type == "report.generated"]
        if found:
            return await _follow(console, mesh, found[0].id, began)
        if shown.tasks and all(task.ended for task in shown.tasks):
            return []
        await asyncio.sleep(0.2)


def _print(console: Console, note: Note, began: float) -> None:
    colour = {"task.succeeded": "green", "event.completed": "bold green", "task.failed": "bold red"}
    who = note.task["name"] if note.task else note.event["type"]
    said = note.data.get("text") or note.data.get("error", {}).get("reason") or ""
    if note.type == "task.progress":
        said = f"{note.data['progress']:>4.0%}  {said}"
    line = f"   {time.monotonic() - began:6.2f} s  {note.type:<16} {who:<32} {said}"
    console.print(line.rstrip(), style=colour.get(note.type, ""), markup=False)


async def _where(
    console: Console, mesh: MeshClient, url: str, requested: str, place: dict[str, Any] | None
) -> None:
    console.print("\n[bold]4. What there is now[/]")
    event = await mesh.event(requested)
    for task in event.tasks:
        result = task.result or {}
        if "object" in result:
            console.print(
                f"   the report: {result['pages']} pages, {result['size_bytes']:,} bytes, {result['rows']:,} rows"
            )
            if place:
                console.print(f"     file      {_short(Path(place['store_folder']) / result['object'])}")
            console.print(f"     download  {url}{result['download_path']}")
    if place:
        for mail in sorted(Path(place["mail_folder"]).glob("*.eml"))[-2:]:
            console.print(f"   a mail:     {_short(mail)}")
    console.print(f"   the API:    {url}/docs   (while the mesh runs: `make up`)")
    console.print(f"   the event:  GET {url}/v1/events/{requested}\n")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
