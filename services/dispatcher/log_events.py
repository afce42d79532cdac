"""What this service logs itself: every event by its name, and what it means."""

from __future__ import annotations

from collections.abc import Mapping

LOG_EVENTS: Mapping[str, str] = {
    "backfill.ended": "A backfill has handed all over, or was stopped.",
    "backfill.failed": "A page of a backfill could not be handed over; it is tried again.",
    "backfill.waits": "A backfill waits, and for what.",
    "dispatcher.ready": "The dispatcher hands events over.",
    "dispatcher.stopped": "The dispatcher has ended.",
    "due.promoted": "Events and tasks whose time has come were handed on.",
    "event.parked": "A stream entry that is no event became a dead letter.",
    "events.handed_over": "Events became tasks of a service.",
    "events.kept": "Events beyond their retention are kept, as a service has not been handed them.",
    "events.refused": "A batch of events could not be handed over; it is tried again one by one.",
    "events.trimmed": "Events beyond their retention were removed.",
    "lane.goes_on": "A lane that waited for its queue goes on.",
    "lane.group_lost": "The consumer group of a service is gone; it is made anew.",
    "lane.left_pending": "Entries of a lane that stopped wait for another dispatcher.",
    "lane.plans_again": "Manifests changed while events were handed over; they are planned again.",
    "lane.service_removed": "The lane's service was taken out of the mesh; the lane ends.",
    "lane.started": "A lane hands events over to a service.",
    "lane.took_over": "A lane took entries over that another dispatcher left.",
    "lane.waiting": "A lane waits, since its service's queue is full.",
    "lane.waits_for_memory": "A lane waits, since Redis is full.",
    "lane.waits_on": "A lane still waits for its queue (each minute).",
    "leftovers.dropped": "What nobody needs any more was removed.",
    "open_tasks.unreadable": "The list of a service's open tasks cannot be read.",
    "redis.lost_data": "Redis came back without its last data; the lanes begin anew.",
    "router.leaves": "Queues are full: the router serves these services no more, their lanes go on.",
    "router.leaves_all": "Something cannot be handed over in one step with the rest: the lanes deal with it.",
    "router.plans_again": "Manifests changed while events were handed over; they are planned again.",
    "router.took": "This dispatcher routes a domain.",
    "router.waits_for_memory": "The router waits, since Redis is full.",
    "task.not_queued_again": "A task that lies nowhere could not be queued again yet.",
    "task.queued_again": "A task that lay nowhere was queued again.",
    "tasks.released": "Tasks of a subscription that was resumed were queued.",
}
