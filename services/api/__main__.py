"""`python -m services.api`: settings, logs, keys, and the server on its loop."""

from __future__ import annotations

import sys

import structlog
import uvloop
from streammesh import logs
from streammesh.api_keys import ApiKeys
from streammesh.health import Health, serve_health
from streammesh.keys import Keys
from streammesh.redisio.client import open_async
from streammesh.redisio.inspector import start_inspecting
from streammesh.redisio.internals import start_with
from streammesh.redisio.mesh_format import meet
from streammesh.roles import keep_what_is_loaded
from streammesh.settings import MeshSettings, load_settings
from streammesh.telemetry import spans

from services.api.app import create_app
from services.api.bootstrap_keys import CannotStart, ensure_keys
from services.api.internals import check
from services.api.server import make_server, raise_file_limit
from services.api.settings import ApiSettings, StoreSettings

log = structlog.get_logger(__name__)


async def serve(mesh: MeshSettings, api: ApiSettings, store: StoreSettings) -> None:
    """Check the keys, then serve until told to stop. Raises CannotStart."""
    health = Health()
    health.works_while("server", lambda: "it is starting")
    serve_health(health, mesh.health_host, mesh.health_port, measured=mesh.metrics)
    secret = None
    for number in range(mesh.shards):
        shard = mesh.of_shard(number)
        client = open_async(shard, "api-start")
        try:
            await meet(client, Keys(shard.namespace), health, None)
            if number == 0:  # the keys are there
                secret = await ensure_keys(ApiKeys(client, Keys(shard.namespace)), api)
        finally:
            await client.aclose()
    if secret:
        sys.stdout.write(f"Development API key (admin, shown once): {secret}\n")
        sys.stdout.flush()
    server = make_server(create_app(mesh, api, store, health), api)
    keep_what_is_loaded()  # looking through all of it for garbage would hold the loop for a tenth of a second
    await server.serve()


def main() -> None:
    """Run the API; exits with 2 and one line when it cannot start as it is configured."""
    mesh = load_settings(MeshSettings, whole=True)
    api, store = load_settings(ApiSettings), load_settings(StoreSettings)
    logs.configure(mesh, "api")
    spans.begin(mesh.traces_url, mesh.traces_share, "api")
    start_with(check)
    for number in range(mesh.shards):
        start_inspecting(mesh.of_shard(number))
    raise_file_limit(api)
    try:
        uvloop.run(serve(mesh, api, store))
    except CannotStart as error:
        log.error("api.cannot_start", reason=str(error))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
