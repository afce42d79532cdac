"""Which room may know which. The kit's ranks, lowest first: a module imports only from lower ranks."""

from __future__ import annotations

import sys

import pytest

from tests.architecture.source_tree import EXAMPLES, KIT, SERVICES, Source, sources

RANKS: list[set[str]] = [
    {
        "errors",
        "clock",
        "names",
        "plain_json",
        "redis_url",
        "local_mesh",
        "mail_address",
        "mail_text",
        "durations",
        "extras",
        "object_backend",
        "telemetry",
        "notification_types",
        "webhook_keys",
        "key_types",
        "flow_keys",
        "shard_keys",
        "cancel_keys",
        "durable_keys",
        "access_keys",
        "identity",
    },
    {"setting_kinds"},
    {"settings", "keys", "group_place", "cel"},
    {"acl_rules", "logs", "log_events", "lua", "embedded", "health"},
    {"redisio"},
    {
        "roles",
        "refused_services",
        "events",
        "api_keys",
        "process_group",
        "group_link",
        "audit",
        "flow",
        "edition",
    },
    {"shards"},
    {"subscriptions", "notifications", "schedules", "pipeline_publisher", "lines"},
    {"tasks", "notification_log"},
    {
        "dead_letters",
        "rollout",
        "status",
        "routed",
        "durable",
        "compatibility",
        "webhooks",
        "batches",
        "event_trim",
    },
    {"transport", "retirement", "history", "cancellation", "outbox"},
    {"brokers", "backfill", "reshard"},
    {"worker"},
    {"service"},
    {"client"},
    {"testing"},
    {"cli"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}
PURE = {
    *("errors", "clock", "names", "plain_json", "redis_url", "keys"),
    *("mail_address", "mail_text", "durations", "cel.syntax", "cel.expression"),
    *("events.validation", "events.envelope", "events.encoded", "identity"),
    *("edition", "rollout.membership", "subscriptions.manifest", "subscriptions.filters"),
    *("tasks.handler", "tasks.context", "tasks.task", "tasks.verdict"),
    "services.dispatcher.delivery_plan",
    "services.report_worker.aggregation",
}
DOES_IO = {"redis", "aiohttp", "celery", "kombu", "fastapi", "socket", "subprocess", "asyncio", "obstore"}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "celery", "redis", "logging"}
# Files that may be brought in late: heavy parts of the command line, so that `--help` is quick, and of the client.
LATE_ALLOWED = (
    "shared/streammesh/client/mesh_client.py",
    "shared/streammesh/cli/",
    "shared/streammesh/worker/config.py",
    "shared/streammesh/embedded.py",
    "shared/streammesh/testing/plugin.py",  # Celery, which most tests of a run do without
)


def room_of(source: Source) -> str:
    """The kit's room that a file is in: its folder or its own name."""
    return source.path.relative_to(KIT).parts[0].removesuffix(".py")


def kit_files() -> list[Source]:
    return [s for s in sources(KIT) if s.path != KIT / "__init__.py"]


@pytest.mark.parametrize("source", kit_files(), ids=lambda s: s.name)
def test_the_kit_imports_strictly_downward(source: Source) -> None:
    own = room_of(source)
    assert own in RANK, f"{own} has no rank: give it one at the top of this file"
    for found in source.imports():
        if not found.module.startswith("streammesh."):
            continue
        other = found.module.split(".")[1]
        if other == own or other not in RANK:
            continue  # a name of the package itself, or the same room
        assert RANK[other] < RANK[own], (
            f"{source.name}:{found.line} imports {found.module}, which is not below {own}"
        )


@pytest.mark.parametrize("source", kit_files(), ids=lambda s: s.name)
def test_no_late_import_gets_round_the_ranks(source: Source) -> None:
    if source.name.startswith(LATE_ALLOWED):
        return
    late = [f for f in source.imports() if f.late and f.module.startswith("streammesh")]
    assert not late, f"{source.name}:{late[0].line} imports {late[0].module} inside a function"


@pytest.mark.parametrize("source", sources(KIT), ids=lambda s: s.name)
def test_the_kit_knows_no_service_and_keeps_its_parts_apart(source: Source) -> None:
    room = source.path.relative_to(KIT).parts[0]
    for found in source.imports():
        top = found.module.split(".")[0]
        assert top not in {"services", "examples", "fastapi"}, (
            f"{source.name}:{found.line} imports {found.module}"
        )
        if top in {"celery", "billiard"}:
            assert room in {"worker", "brokers"}, f"{source.name}:{found.line}: Celery belongs into worker/"
        if top == "kombu":
            assert room in {"worker", "transport", "brokers"}, f"{source.name}:{found.line} imports kombu"
        if top == "pytest":
            assert room == "testing", f"{source.name}:{found.line}: pytest belongs into testing/"


@pytest.mark.parametrize("source", sources(SERVICES, tests=True), ids=lambda s: s.name)
def test_a_service_knows_the_kit_and_itself_only(source: Source) -> None:
    own = source.path.relative_to(SERVICES).parts[0]
    for found in source.imports():
        parts = found.module.split(".")
        if parts[0] == "services" and len(parts) > 1:
            assert parts[1] == own, f"{source.name}:{found.line} imports {found.module}, another team's"
        if parts[0] == "fastapi":
            assert own == "api", f"{source.name}:{found.line}: only the API speaks FastAPI"
        if parts[0] in {"celery", "kombu"}:
            is_workflow = parts[0] == "celery" and not found.module.startswith("celery.app")
            assert is_workflow and own != "dispatcher", (
                f"{source.name}:{found.line}: the kit's worker/ holds Celery"
            )


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_rooms_do_no_io(name: str) -> None:
    base = SERVICES.parent if name.startswith("services.") else KIT
    path = base / (name.replace(".", "/") + ".py")
    source = Source(path, path.read_text("utf-8"))
    for found in source.imports():
        assert found.module.split(".")[0] not in DOES_IO, f"{source.name}:{found.line} imports {found.module}"


def test_no_module_has_a_name_that_says_nothing() -> None:
    for folder in (KIT, SERVICES, EXAMPLES):
        for source in sources(folder, tests=True):
            assert source.path.stem not in FORBIDDEN_NAMES, source.name
            assert not FORBIDDEN_NAMES & set(source.path.relative_to(folder).parts[:-1]), source.name


def test_every_rank_names_rooms_that_exist() -> None:
    rooms = {path.stem for path in KIT.iterdir()} | {path.name for path in KIT.iterdir()}
    missing = set(RANK) - rooms
    assert not missing, f"ranks name rooms that are not there: {missing}"


def test_the_standard_library_is_not_shadowed() -> None:
    for source in sources(KIT):
        if source.path.parent == KIT:
            assert source.path.stem not in sys.stdlib_module_names or source.path.stem == "__init__", (
                source.name
            )
