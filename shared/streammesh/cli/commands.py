"""The commands by name: what each is for, and where it is written. A command's module is imported when it runs."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class CommandPlace(NamedTuple):
    """Where a command or a group of commands is written, and its first line of help."""

    module: str
    name: str
    help: str


COMMANDS = {
    "up": CommandPlace(
        "up",
        "command",
        "Run the whole mesh here, with this folder's workers: Redis, a mail catcher, every service. Ctrl-C drains.",
    ),
    "dev": CommandPlace(
        "dev", "dev", "Run one worker beside a whole mesh, anew whenever a file is saved. Ctrl-C stops both."
    ),
    "rerun": CommandPlace(
        "rerun",
        "rerun",
        "Run this folder's handlers for one event of the mesh on your desk, without effects on the mesh.",
    ),
    "demo": CommandPlace(
        "demo", "command", "Do the main job once, through the front door, and show what was pushed back."
    ),
    "publish": CommandPlace("publish", "publish", "Publish one event."),
    "watch": CommandPlace(
        "watch", "watch", "Show notifications until Ctrl-C; with --event until the event has ended."
    ),
    "event": CommandPlace(
        "events", "event", "Show an event and everything that came of it; where nothing ran, why."
    ),
    "events": CommandPlace("event_list", "events", "List events, newest first, and where each stands."),
    "tasks": CommandPlace(
        "events", "tasks", "List the tasks that an event became; without an event those that have not ended."
    ),
    "task": CommandPlace("events", "task", "Show one task: state, attempt, result or error, times, worker."),
    "status": CommandPlace(
        "status",
        "status",
        "Say what is wrong in the mesh. Exit code 0: nothing, 4: warnings, 5: errors, 3: the API or Redis is away.",
    ),
    "doctor": CommandPlace(
        "doctor",
        "doctor",
        "Look at the mesh from beside it, over Redis, and at what the services of this folder need; say what to mend.",
    ),
    "sizing": CommandPlace(
        "memory_need", "sizing", "Say what to buy: memory of Redis for so many events a second."
    ),
    "services": CommandPlace("status", "services", "Services: list them, look at one, take one away."),
    "top": CommandPlace(
        "top", "top", "Show rates, what waits and what is wrong, service by service, until Ctrl-C."
    ),
    "schedules": CommandPlace("schedules", "app", "Schedules: list, enable, disable, run now, delete."),
    "failures": CommandPlace(
        "failures", "failures", "Show what failed for good, by handler and error, the most frequent first."
    ),
    "audit": CommandPlace(
        "audit", "audit", "List who changed what, newest first; with --json one document a line."
    ),
    "dead": CommandPlace("dead", "app", "Dead letters: work that was given up, with its reason."),
    "backfill": CommandPlace("backfills", "backfill", "Give a service its past."),
    "backfills": CommandPlace("backfills", "app", "Backfills: list, show, stop."),
    "replay": CommandPlace("backfills", "replay", "Run ended tasks of a service again."),
    "flow": CommandPlace(
        "flow", "flow", "Show what of a subscription waits for its turn, key by key; or set other limits."
    ),
    "outbox": CommandPlace(
        "outbox",
        "outbox",
        "Relay an outbox until it is told to stop.",
    ),
    "subscriptions": CommandPlace("subscriptions", "app", "Subscriptions: list, pause, resume."),
    "keys": CommandPlace("api_keys", "app", "API keys: who may publish what and be told what."),
    "acl": CommandPlace("acl", "acl", "Print Redis's ACL rules, one user a line, as an `aclfile` has them."),
    "shards": CommandPlace("shards", "shards", "Show where each shard lies and what it says of itself."),
    "reshard": CommandPlace(
        "shards", "reshard", "Copy the mesh, which stands still, into more shards under another namespace."
    ),
    "new-worker": CommandPlace(
        "new_worker", "new_worker", "Make the folder of a new worker: it runs, and its tests pass."
    ),
    "check": CommandPlace(
        "check",
        "check",
        "Tell what would be refused when a worker joins: services/NAME, or one of a repository of its own.",
    ),
}


class Commands(MutableMapping[str, Any]):
    """The commands, each imported when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            place = COMMANDS[name]
            found = getattr(import_module(f"streammesh.cli.{place.module}"), place.name)
            if not isinstance(found, typer.Typer):
                alone = _typer()
                alone.command(name)(found)
                found = alone
            self._loaded[name] = typer.main.get_command(found)
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        del self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Root(TyperGroup):
    """`streammesh`: its help comes from the table, a command from its module."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = Commands()

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names; nothing is imported for that."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what is needed to list a command."""
        place = COMMANDS.get(cmd_name)
        return place and TyperCommand(cmd_name, help=place.help)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command itself, to be run."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, self.commands[name] if name else None, rest


def _typer(**options: Any) -> typer.Typer:
    # Plain help: what draws frames around it takes a quarter of a second to load.
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **options)


app = _typer(
    name="streammesh",
    cls=Root,
    help="Services say what happened; the right workers run; whoever waits is told.",
    no_args_is_help=True,
)


@app.callback()
def _root() -> None:
    pass
