"""`streammesh outbox`: publishes what services wrote into the outbox of their own database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from streammesh.cli.api_call import UNREACHABLE, WRONG_USE, fail

if TYPE_CHECKING:
    from streammesh.outbox import Relay

Database = Annotated[
    str,
    typer.Option(
        envvar="OUTBOX_URL", show_envvar=False, help="The database, as SQLAlchemy has it; else OUTBOX_URL."
    ),
]


def outbox(
    database: Database = "",
    table: Annotated[
        str, typer.Option(help="The table; `schema.name` for one of a schema.")
    ] = "streammesh_outbox",
    source: Annotated[str, typer.Option(help="Name in logs; events keep their own sources.")] = "outbox",
    once: Annotated[bool, typer.Option("--once", help="Relay what waits, then end.")] = False,
    parallel: Annotated[
        bool, typer.Option("--parallel", help="Several relays share the rows; no order is kept.")
    ] = False,
    create: Annotated[bool, typer.Option("--create", help="Make the table where it is missing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Try rows again that were set aside.")] = False,
) -> None:
    """Relay an outbox until it is told to stop. MESH_REDIS_URL says where the mesh is."""
    if not database:
        raise typer.BadParameter("say which database: --database, or the variable OUTBOX_URL")
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    from streammesh import logs
    from streammesh.errors import MeshUnavailable
    from streammesh.outbox import Relay, outbox_table
    from streammesh.settings import MeshSettings, load_settings
    from streammesh.shards import SyncShardedPublisher

    settings = load_settings(MeshSettings)
    logs.configure(settings, source)
    try:
        engine = sa.create_engine(database, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        fail(f"--database: {error}", WRONG_USE)
    schema, _, name = table.rpartition(".")
    rows = outbox_table(sa.MetaData(), name, schema=schema or None)
    try:
        if create:
            rows.metadata.create_all(engine)
        elif not sa.inspect(engine).has_table(name, schema=schema or None):
            fail(f"there is no table {table}: make it with your migrations, or with --create", WRONG_USE)
    except SQLAlchemyError as error:
        fail(f"the database is away: {str(getattr(error, 'orig', error)).strip()[:300]}", UNREACHABLE)
    publisher = SyncShardedPublisher(settings, source)
    relay = Relay(engine, publisher, rows, in_order=not parallel)
    try:
        if again:
            typer.echo(f"{relay.try_again()} rows are tried again")
        if once:
            typer.echo(f"{_all(relay)} events relayed")
        else:
            _until_stopped(relay)
    except (MeshUnavailable, SQLAlchemyError) as error:
        fail(str(getattr(error, "orig", error)).strip()[:300], UNREACHABLE)
    finally:
        publisher.close()
        engine.dispose()


def _all(relay: Relay) -> int:
    relayed = 0
    while (passed := relay.relay()).relayed or passed.aside:
        relayed += passed.relayed
    return relayed


def _until_stopped(relay: Relay) -> None:
    from streammesh.roles import keep_on, run_until_stopped

    async def main(stop: asyncio.Event) -> None:
        role = asyncio.create_task(keep_on("outbox", relay.run))
        await stop.wait()
        role.cancel()
        await asyncio.gather(role, return_exceptions=True)

    run_until_stopped(main)
