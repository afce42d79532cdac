"""`streammesh acl`: a user of Redis for each kind of process, with what it needs and no more."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

import typer

PASSWORD_BYTES = 24


def acl(
    services: Annotated[
        list[str] | None,
        typer.Argument(help="Services whose workers get a user; else those that have joined."),
    ] = None,
    generate: Annotated[bool, typer.Option("--generate", help="Make up a password for each.")] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Add what a Redis Cluster is asked.")] = False,
    database: Annotated[int, typer.Option(min=0, help="The number of the database.")] = 0,
) -> None:
    """Print Redis's ACL rules, one user a line, as an `aclfile` has them. Exit code 3: Redis is away."""
    from streammesh import names
    from streammesh.acl_rules import KINDS, users
    from streammesh.keys import Keys
    from streammesh.settings import MeshSettings, load_settings

    wanted = services
    settings = load_settings(MeshSettings)
    if not wanted:
        wanted = asyncio.run(_joined())
    for service in wanted:
        if not names.SERVICE.match(service):
            raise typer.BadParameter(f"{service!r:.80} is no name of a service", param_hint="services")
    count = len(wanted) + len(KINDS)
    passwords = (
        [secrets.token_urlsafe(PASSWORD_BYTES) for _ in range(count)]
        if generate
        else [f"CHANGE-ME-{number}" for number in range(1, count + 1)]
    )
    for line in users(Keys(settings.namespace), wanted, passwords, database=database, cluster=cluster):
        typer.echo(line)


async def _joined() -> list[str]:
    """The services whose manifests the mesh has, but for the scheduler, which has rules of its own."""
    from redis.exceptions import RedisError

    from streammesh import names
    from streammesh.keys import Keys
    from streammesh.redisio.client import open_async
    from streammesh.settings import MeshSettings, load_settings
    from streammesh.subscriptions.registry import read_manifests

    settings = load_settings(MeshSettings)
    client = open_async(settings, "acl")
    try:
        manifests = await read_manifests(client, Keys(settings.namespace))
    except (RedisError, OSError) as error:
        typer.echo(f"Redis does not answer ({error}); name the services", err=True)
        raise typer.Exit(3) from None
    finally:
        await client.aclose()
    return [manifest.service for manifest in manifests if manifest.service != names.MESH]
