"""The commands, one function each; what they do is in the modules beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streammesh.cli.api_keys import app as keys
from streammesh.cli.check import check
from streammesh.cli.dead import app as dead
from streammesh.cli.events import event, task, tasks
from streammesh.cli.new_worker import new_worker
from streammesh.cli.publish import publish
from streammesh.cli.status import services, status
from streammesh.cli.subscriptions import app as subscriptions
from streammesh.cli.watch import watch

app = typer.Typer(
    name="streammesh",
    help="Services say what happened; the right workers run; whoever waits is told.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(keys, name="keys")
app.add_typer(dead, name="dead")
app.add_typer(subscriptions, name="subscriptions")
app.add_typer(services, name="services")
Folder = Annotated[Path, typer.Option(help="Where data, mails and reports are kept.")]


@app.command()
def up(
    folder: Folder = Path("var/up"),
    redis_url: Annotated[
        str | None, typer.Option(help="A Redis that runs already; else one is brought.")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Do not print where everything is.")] = False,
) -> None:
    """Run the whole mesh here: Redis, a mail catcher and every service in `services/`. Ctrl-C drains."""
    from streammesh.cli.up import up as run

    run(Path.cwd(), folder.resolve(), redis_url, quiet)


@app.command()
def demo(
    folder: Folder = Path("var/demo"),
    url: Annotated[str | None, typer.Option(help="A mesh that runs already; else one is started.")] = None,
    key: Annotated[str | None, typer.Option(help="API key for --url.", envvar="STREAMMESH_KEY")] = None,
) -> None:
    """Do the main job once, through the front door, and show what was pushed back."""
    from streammesh.cli.demo import demo as run

    raise typer.Exit(run(Path.cwd(), folder.resolve(), url, key))


for command in (publish, watch, event, tasks, task, status, new_worker, check):
    app.command()(command)
