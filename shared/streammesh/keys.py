"""Every Redis key of the mesh: its type, its meaning, its lifetime.

All of a mesh's keys share one hash tag, so a script that touches several of them is legal on Redis Cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streammesh import names
from streammesh.access_keys import AccessKeys
from streammesh.cancel_keys import CancelKeys
from streammesh.durable_keys import DurableKeys
from streammesh.flow_keys import FlowKeys
from streammesh.shard_keys import ShardKeys
from streammesh.webhook_keys import WebhookKeys

WORKERS = "workers"  # the one consumer group of every queue
RETURNED = "returned"  # owner, in that group, of entries that were given back; no process has this name
FORWARDED = (
    "forwarded"  # owner, in that group, of entries that another broker carries to workers; no process either
)
PRIORITY = 5  # of what names none; 0 is the lowest, 9 the highest
PRIORITIES = (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)  # in the order in which a queue is read
ARCHIVER = "_archiver"  # the group by which the archiver reads events, and ended tasks
UNCLAIMED = "_unclaimed"  # the group that looks after domains which no service subscribes to


@dataclass(frozen=True, slots=True)
class Keys(WebhookKeys, CancelKeys, DurableKeys, FlowKeys, AccessKeys, ShardKeys):
    """The keys of the mesh called `namespace`."""

    namespace: str = "mesh"
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"{{{self.namespace}}}:")

    def of_the_mesh(self) -> list[str]:
        """All keys of which a mesh has one."""
        return [
            *(self.domains(), self.due(), self.due_entries(), self.manifests(), self.manifests_version()),
            *(self.joined(), self.failures(), self.paused(), self.holding(), self.binding_deadlines()),
            *(self.flows(), self.folding()),
            *(self.tasks_recent(), self.dead_services(), self.counters(), self.alerted()),
            self.notifications(),
            *(
                self.schedules(),
                self.schedules_due(),
                self.api_keys(),
                self.api_keys_revoked(),
                self.refusals(),
            ),
            self.cancelling(),
            *(self.api_keys_used(), self.cursor_secret(), self.memory(), self.last_seen(), self.audit()),
            *(self.webhooks(), self.webhooks_version(), self.webhooks_place(), self.webhooks_due()),
            *(self.url_workers(), self.format()),
            *(self.backfills(), self.backfills_running()),
            *(self.webhooks_failing(), self.webhooks_behind(), self.webhooks_disabled()),
            *(self.alive(role) for role in ("dispatcher", "api", "beat", "webhook_worker")),
        ]

    def of_a_service(self, service: str) -> list[str]:
        """All keys of which each service has one; of the queue the streams of all priorities."""
        return [
            *(self.queue(service, step) for step in range(10)),
            *(self.dead(service), self.dead_index(service), self.dead_entries(service)),
            *(self.open_tasks(service), self.alive(service), self.editions(service), self.waking(service)),
            self.sealed_manifest(service),
        ]

    # --- events -------------------------------------------------------------------------------

    def events(self, domain: str) -> str:
        """STREAM. The events of one domain, field `e` = the envelope as JSON. Trimmed by `retention`."""
        return f"{self.prefix}events:{domain}"

    def routed(self, domain: str) -> str:
        """HASH. How far the router of one domain is, and whom it serves: service -> position from which on.

        `:at` position, `:read` how many events that are, `:members` another number after each change of the
        services, `:by` and `:until` (ms) the dispatcher that routes, `:anew SERVICE` the end of its stream when a service's
        group was made late or anew. Bounded by the number of services.
        """
        return f"{self.prefix}routed:{domain}"

    def domains(self) -> str:
        """SET. Every domain that has a stream. Bounded by the number of domains."""
        return f"{self.prefix}domains"

    def event(self, event_id: str) -> str:
        """HASH. What became of the events with this id. Expires `retention` after it was published.

        Per source: `at:<source>` where it is stored, `want:<source>` how many deliveries it has,
        `done:<source>` and `failed:<source>` how many ended, `notes:<source>` positions of its
        notifications; per task: `task:<task id>` = source.
        """
        return f"{self.prefix}event:{event_id}"

    def identity(self, part: int, bucket: int) -> str:
        """SET. Whole numbers: digests of identities of one stretch of time; see `identity.py`. Expires."""
        return f"{self.prefix}identity:{part}:{bucket:x}"

    # --- what waits for later -----------------------------------------------------------------

    def due(self) -> str:
        """ZSET. Score = due time in ms, member = `task:<id>`, `event:<id> <source>`, `entry:<task id> <entry>`
        or `flow:<task name>`.

        Emptied when due.
        """
        return f"{self.prefix}due"

    def due_entries(self) -> str:
        """HASH. What to do with each member of `due`, as JSON, packed where it waits long. Entries leave with their member.

        Of an entry that is no plain JSON the fields lie beside it: `h <member>`, `b <member>`, `u <member>`.
        """
        return f"{self.prefix}due-entries"

    # --- subscriptions ------------------------------------------------------------------------

    def manifests(self) -> str:
        """HASH. Service name -> its manifest as JSON. Bounded by the number of services."""
        return f"{self.prefix}manifests"

    def manifests_version(self) -> str:
        """STRING. Another number after every change of `manifests`, also after Redis lost its data."""
        return f"{self.prefix}manifests-version"

    def joined(self) -> str:
        """HASH. `<domain> <service>` -> the last entry of the domain's stream when the service's group was made.

        Older events are not that service's. Bounded by the number of groups.
        """
        return f"{self.prefix}joined"

    def retiring(self) -> str:
        """HASH. Service that is being removed -> what its manifest was. Leaves when nothing of it is left."""
        return f"{self.prefix}retiring"

    def manifests_changed(self) -> str:
        """CHANNEL. Rung when a manifest or the set of domains changed."""
        return f"{self.prefix}manifests-changed"

    def alive(self, role: str) -> str:
        """ZSET. Member = process name, score = last sign of life in ms, of one role or service.

        Entries older than a minute are removed by whoever writes next.
        """
        return f"{self.prefix}alive:{role}"

    def editions(self, service: str) -> str:
        """ZSET. Digest of a service's edition -> last sign of life in ms of a worker of it; removed after a day."""
        return f"{self.prefix}editions:{service}"

    def last_seen(self) -> str:
        """HASH. Role or service -> time in ms when a process of it last showed life. Leaves with the service."""
        return f"{self.prefix}last-seen"

    # --- paused subscriptions -----------------------------------------------------------------

    def failures(self) -> str:
        """HASH. Task name -> dead letters in a row. A success removes it. Bounded by the number of subscriptions."""
        return f"{self.prefix}failures"

    def paused(self) -> str:
        """HASH. Task name of a paused subscription -> since when and why, as JSON. Bounded as `failures`."""
        return f"{self.prefix}paused"

    def held(self, task: str) -> str:
        """STREAM. Queue entries of a paused subscription's tasks, and `k`, the task's id. Emptied after it is resumed."""
        return f"{self.prefix}held:{task}"

    def holding(self) -> str:
        """SET. Task names whose stream `held` is not empty. Bounded by the number of subscriptions."""
        return f"{self.prefix}holding"

    # --- the past of a service ------------------------------------------------------------------

    def backfill(self, backfill_id: str) -> str:
        """HASH. One backfill: what is to be handed over, how far it is, counts. Expires 30 days after it ended."""
        return f"{self.prefix}backfill:{backfill_id}"

    def backfills(self) -> str:
        """ZSET. Ids of backfills by the time in ms when they began. The newest 200."""
        return f"{self.prefix}backfills"

    def backfills_running(self) -> str:
        """HASH. Service -> id of its backfill that runs. Bounded by the number of services."""
        return f"{self.prefix}backfills-running"

    # --- queues -------------------------------------------------------------------------------

    def queue(self, name: str, priority: int = PRIORITY) -> str:
        """STREAM. The entries of one priority in one queue. Entries are deleted when ended."""
        return (
            f"{self.prefix}queue:{name}" if priority == PRIORITY else f"{self.prefix}queue:{name}:p{priority}"
        )

    def queue_streams(self, name: str) -> list[str]:
        """All streams of one queue, the highest priority first."""
        return [self.queue(name, priority) for priority in PRIORITIES]

    def control(self, service: str) -> str:
        """CHANNEL. Says to a service's workers which running task is to be stopped: its id."""
        return f"{self.prefix}control:{service}"

    # --- the stream transport -----------------------------------------------------------------

    def binding(self, exchange: str) -> str:
        """SET. The queues bound to one exchange of kombu. Swept once nobody refreshed it (`binding_deadlines`)."""
        return f"{self.prefix}binding:{exchange}"

    def binding_permanent(self, exchange: str) -> str:
        """SET. Those bindings of one exchange whose queues have no lifetime. Bounded by the number of queues."""
        return f"{self.prefix}binding-permanent:{exchange}"

    def binding_deadlines(self) -> str:
        """ZSET. Exchange -> time in ms after which its bindings are swept. Bounded by the number of exchanges."""
        return f"{self.prefix}binding-deadlines"

    def fanout(self, database: int) -> str:
        """CHANNEL. What begins the names of kombu's fanout channels: remote control, worker events."""
        return f"{self.prefix}fanout:{database}:"

    # --- Celery's own list transport ----------------------------------------------------------

    def list_transport(self) -> str:
        """What begins every key of kombu's own Redis transport, where `MESH_BROKER_URL` asks for it."""
        return f"{self.prefix}lists:"

    # --- ledger -------------------------------------------------------------------------------

    def task(self, task_id: str) -> str:
        """HASH. The ledger row of one task: state, attempt, lease, outcome. Expires `result_ttl` after it ends."""
        return f"{self.prefix}task:{task_id}"

    def task_in(self, queue: str, task_id: str) -> str:
        """The row of the task whose id stands in an entry of a queue; of none at all, where its service has no such ids."""
        owner = names.owner_of(queue)
        return self.task(task_id if names.is_task_of(task_id, owner) else names.mark_of(owner))

    def tasks_recent(self) -> str:
        """STREAM. One short entry per ended task, for reports on operations. Trimmed by `retention`."""
        return f"{self.prefix}tasks-recent"

    def dead(self, service: str) -> str:
        """HASH. Dead letter id -> what it was and why, as JSON. Bounded by `dead_letters_kept`."""
        return f"{self.prefix}dead:{service}"

    def dead_index(self, service: str) -> str:
        """ZSET. Dead letter ids of one service by time in ms. Bounded as `dead`."""
        return f"{self.prefix}dead-index:{service}"

    def dead_entries(self, service: str) -> str:
        """HASH. What a replay of a dead letter puts back, as raw bytes: `h:<id>` and `b:<id>` of a queue entry,
        `m:<id>` of its ledger row's meta, `e:<id>` of an event, `f:<id>` and `c:<id>` of its flow and of what cancels it. Entries leave with their letter."""
        return f"{self.prefix}dead-entries:{service}"

    def dead_services(self) -> str:
        """SET. Every service or queue that ever had a dead letter. Bounded by the number of queues."""
        return f"{self.prefix}dead-services"

    def open_tasks(self, service: str) -> str:
        """ZSET. Ids of one service's tasks that have not ended, by the time in ms when they were handed over."""
        return f"{self.prefix}open:{service}"

    def memory(self) -> str:
        """STRING. The last reading of Redis's memory: when (ms), bytes used, maxmemory. Overwritten at each."""
        return f"{self.prefix}memory"

    def counters(self) -> str:
        """HASH. Totals since the mesh began: published, duplicates, handed_over, unrouted, parked. Bounded."""
        return f"{self.prefix}counters"

    def format(self) -> str:
        """HASH. `version` of the keys and scripts of this mesh, and the `oldest` whose processes may work in it."""
        return f"{self.prefix}format"

    def alerted(self) -> str:
        """STRING. Until when (ms) alerts were raised about dead letters and paused subscriptions."""
        return f"{self.prefix}alerted"

    def alert_told(self, finding: str) -> str:
        """STRING. That somebody was told of a finding lately. Expires after an hour, or when it is over."""
        return f"{self.prefix}alert-told:{finding}"

    # --- notifications ------------------------------------------------------------------------

    def notifications(self) -> str:
        """STREAM. Everything that clients are told, in order. About `notifications_kept` entries."""
        return f"{self.prefix}notifications"

    def told(self, event_type: str) -> str:
        """CHANNEL. Each notification of events of a type; `_notify.lua` makes its name from the stream's."""
        return f"{self.prefix}told:{event_type}"

    # --- schedules ----------------------------------------------------------------------------

    def schedules(self) -> str:
        """HASH. Schedule name -> its entry as JSON. Bounded by the number of schedules."""
        return f"{self.prefix}schedules"

    def schedules_due(self) -> str:
        """ZSET. Schedule name, score = its next due time in ms. One member per schedule."""
        return f"{self.prefix}schedules-due"
