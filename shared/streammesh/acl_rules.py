"""Redis's ACL rules: one user for each kind of process of a mesh, with the keys and commands that it needs. Pure.

Source: https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/.
"""

from __future__ import annotations

from collections.abc import Iterable

from streammesh import names
from streammesh.keys import Keys

COMMANDS = (
    *(
        "-@all",
        "+@read",
        "+@write",
        "+@connection",
        "+@pubsub",
        "+@transaction",
        "-@dangerous",
        "-@scripting",
    ),
    *("+eval", "+evalsha", "+script|load"),
)
CELERY = ("+script|exists", "+time", "+info", "+client|unblock")
NOT_OF_WORKERS = ("-scan", "-randomkey", "-dbsize", "-psubscribe")  # which say what others have
ON_EVENTS = ("+xadd", "+xgroup|create", "+xinfo|stream", "+xinfo|groups", "+xpending", "+xrevrange", "+type")
PLAIN = ("+time", "+info")
CLUSTER = ("+cluster|slots",)
KINDS = ("api", "dispatcher", "archiver", "scheduler", "webhook_worker")  # that reach all keys of the mesh


def users(
    keys: Keys, services: Iterable[str], passwords: Iterable[str], *, database: int = 0, cluster: bool = False
) -> list[str]:
    """One line for an aclfile for each kind of process and for the workers of each service, each with a password."""
    more = CLUSTER if cluster else ()
    mesh = [(f"mesh-{kind}", _of_the_mesh(keys, kind, database)) for kind in KINDS]
    workers = [(f"mesh-worker-{service}", worker_rules(keys, service, database)) for service in services]
    return [
        " ".join(("user", name, "on", f">{password}", *rules, *more))
        for (name, rules), password in zip([*mesh, *workers], passwords, strict=False)
    ]


def worker_rules(keys: Keys, service: str, database: int = 0) -> list[str]:
    """What the workers of one service may: their own queues and dead letters, and what all services share."""
    queue, mark = keys.queue(service), names.mark_of(service)
    own = (
        *(queue, f"{queue}:*", f"{queue}.*"),
        *(f"{keys.queue('*.pidbox')}", f"{keys.queue('*.pidbox')}:*"),
        *(keys.open_tasks(service), keys.dead(service), keys.dead_index(service), keys.dead_entries(service)),
        *(keys.alive(service), keys.editions(service), keys.held(f"{service}.*")),
        *keys.of_a_flow(f"{service}.*"),
        *(keys.arrived(service, "*"), keys.waiters(service, "*"), keys.waking(service)),
        *(keys.cancellable(f"{service}.*"), keys.canceller(f"{service}.*", "*")),
        *(keys.task(f"*{mark}"), keys.chunks(f"*{mark}", "*"), keys.sealed_manifest(service)),
    )
    shared = (
        *(keys.event("*"), f"{keys.prefix}result:*"),
        *(f"{keys.prefix}set-aside:*", f"{keys.prefix}identity:*", f"{keys.prefix}binding*"),
        *(keys.domains(), keys.due(), keys.due_entries()),
        *(
            keys.manifests(),
            keys.manifests_version(),
            keys.refusals(),
            keys.joined(),
            keys.last_seen(),
            keys.failures(),
        ),
        *(keys.paused(), keys.holding(), keys.dead_services(), keys.counters(), keys.memory()),
        *(keys.format(), keys.flows(), keys.folding(), f"{keys.prefix}outbox:*"),
    )
    written = (keys.notifications(), keys.tasks_recent())  # and never read: what became of others' tasks
    return [
        "resetkeys",
        *(f"~{key}" for key in (*own, *shared)),
        *(f"%W~{key}" for key in written),
        f"%R~{keys.routed('*')}",  # whether what is expected may still come
        *_worker_channels(keys, service, database),
        *COMMANDS,
        *NOT_OF_WORKERS,
        *CELERY,
        _hears(keys, database),
        _tells(keys),
        _publishes(keys),
    ]


def _of_the_mesh(keys: Keys, kind: str, database: int) -> list[str]:
    celery = kind in ("scheduler", "webhook_worker")  # which run workers of Celery, too
    channels = _channels(keys, database) if celery else ["resetchannels", f"&{keys.prefix}*"]
    return ["resetkeys", f"~{keys.prefix}*", *channels, *COMMANDS, *(CELERY if celery else PLAIN)]


def _worker_channels(keys: Keys, service: str, database: int) -> list[str]:
    """Where a worker speaks and listens: not to another service's workers, whose tasks it could have stopped."""
    return [
        "resetchannels",
        f"&{keys.control(service)}",
        f"&{keys.manifests_changed()}",
        f"&{keys.chunks_written()}",
        f"&{keys.prefix}result:*",  # where who waits for a result of Celery is told
        f"&{keys.fanout(database)}celeryev*",
    ]


def _hears(keys: Keys, database: int) -> str:
    """A selector: it hears remote control's orders, which are the same channel for all workers, and gives none."""
    return f"(-@all +subscribe +psubscribe &{keys.fanout(database)}celery.pidbox)"


def _tells(keys: Keys) -> str:
    """A selector: it tells on the channels beside the notifications, and does not listen there."""
    return f"(-@all +publish &{keys.told('*')})"


def _publishes(keys: Keys) -> str:
    """A selector: it adds events and joins, and takes nothing away from the groups of others, nor from the streams."""
    return f"(-@all {' '.join(ON_EVENTS)} ~{keys.events('*')})"


def _channels(keys: Keys, database: int) -> list[str]:
    # Redis compares subscribed patterns by letter, so remote control's stands by itself.
    return ["resetchannels", f"&{keys.prefix}*", f"&{keys.fanout(database)}celery.pidbox"]
