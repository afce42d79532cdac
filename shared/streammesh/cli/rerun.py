"""`streammesh rerun EVENT --here`: this folder's handlers for one event of the mesh, on one's own desk."""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streammesh import plain_json
from streammesh.cli.api_call import (
    NOT_SUCCEEDED,
    NOTHING_RAN,
    REFUSED,
    WRONG_USE,
    Key,
    Source,
    Url,
    ask,
    fail,
)
from streammesh.cli.events import known_tasks
from streammesh.cli.found_programs import FoundProgram, NothingToRun, find_services, find_workers

if TYPE_CHECKING:
    from streammesh.events.envelope import Event
    from streammesh.service import Service


def rerun(
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    here: Annotated[bool, typer.Option("--here", help="Here, with this folder's code.")] = False,
    handler: Annotated[str | None, typer.Option(help="Only this one, such as confirm.")] = None,
    source: Source = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run this folder's handlers for one event of the mesh on your desk, without effects on the mesh.

    What they publish and their results are shown and go nowhere. What they do to the outside world they do.
    Exit code 4 where one fails, 5 where none wants the event.
    """
    if not here:
        fail(
            "say --here: it runs on this machine. To run a dead letter in the mesh: streammesh dead replay",
            WRONG_USE,
        )
    found = ask(url, key, lambda mesh: mesh.event(event_id, source=source)).raw
    if not found["event"]:
        fail("the mesh no longer has the event's content", REFUSED)
    code = asyncio.run(rerun_here(found, Path.cwd(), handler))
    if code:
        raise typer.Exit(code)


async def rerun_here(found: Mapping[str, Any], root: Path, handler: str | None) -> int:
    """Run every handler of the workers in `root` that wants this event; answers the exit code."""
    from streammesh.events import envelope

    event = envelope.from_json(plain_json.dumps(found["event"]))
    tasks = {task["name"]: task for task in known_tasks(found)}
    ran, failed = 0, 0
    for service in _services(root):
        for name in _wanted_by(service, event, handler):
            ran += 1
            failed += not await _run(service, name, event, tasks.get(name, {}))
    if not ran:
        typer.echo(f"nothing here wants {event.type}{f' and is called {handler}' if handler else ''}")
        return NOTHING_RAN
    return NOT_SUCCEEDED if failed else 0


def _services(root: Path) -> Iterator[Service]:
    from streammesh.service import Service

    try:
        programs = find_workers(root) or [
            FoundProgram(name, f"services.{name}", root) for name in find_services(root)
        ]
    except NothingToRun as error:
        fail(error, REFUSED)
    for program in programs:
        sys.path.insert(0, str(program.path))
        module = program.module
        if (program.path.joinpath(*module.split(".")) / "handlers.py").is_file():
            module += ".handlers"
        try:
            loaded = importlib.import_module(module)
        except Exception as error:  # whatever a team's module may raise
            fail(f"{module} cannot be imported: {type(error).__name__}: {error}", REFUSED)
        yield from {id(one): one for one in vars(loaded).values() if isinstance(one, Service)}.values()


def _wanted_by(service: Service, event: Event, handler: str | None) -> list[str]:
    from streammesh.subscriptions.manifest import Routes

    wanting = [one.task for one in Routes([service.manifest()]).wanting(event)]
    return [name for name in wanting if handler in (None, name, name.partition(".")[2])]


async def _run(service: Service, name: str, event: Event, task: Mapping[str, Any]) -> bool:
    from streammesh.testing.trial import TrialContext
    from streammesh.worker.handler_call import call_async

    plumbing = service.plumbing_for(service.settings)
    binding = service.delivery_tasks(plumbing)[name].binding
    ctx = TrialContext(
        event.type, event.data, id=event.id, attempt=max(1, task.get("attempt") or 1),
        task_id=task.get("id"), service=service.name,
    )  # fmt: skip
    ctx.event = event
    typer.echo(f"{name}  {event.type}  {event.id}  as attempt {ctx.attempt}")
    try:
        result = await call_async(binding, plumbing, None, ctx, event)
    except Exception as error:
        typer.echo(
            "".join(traceback.format_exception(error.with_traceback(begins_at(error, binding.handler)))),
            err=True,
        )
        return False
    finally:
        await plumbing.resources.close()
    for fraction, text in ctx.progressed:
        typer.echo(f"  progress {fraction:.0%} {text}")
    for told in ctx.follow_ups:
        typer.echo(f"  would publish {told.type} {plain_json.dumps(told.data).decode()}")
    typer.echo(f"  result {plain_json.dumps(result).decode()}")
    return True


def begins_at(error: BaseException, handler: Any) -> Any:
    """Return the error's traceback from the handler on; all of it where the handler is not in it."""
    code, found = getattr(handler, "__code__", None), error.__traceback__
    while found is not None and found.tb_frame.f_code is not code:
        found = found.tb_next
    return found or error.__traceback__
