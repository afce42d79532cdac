"""What Redis says of events and ended tasks, as the history keeps it. What cannot be read is left out, and said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import redis.asyncio
import structlog
from streammesh import names, plain_json
from streammesh.errors import Malformed
from streammesh.events.envelope import LARGEST, MAX_VALUES
from streammesh.events.validation import MAX_ATTRIBUTE
from streammesh.history.archived import Ended
from streammesh.history.rows import (
    EventEnd,
    EventRecord,
    TaskRecord,
    day_of,
    kept_text,
    moment,
    number,
    place_of,
    state_of,
)
from streammesh.keys import Keys
from streammesh.redisio.answers import there
from streammesh.tasks.records import LARGEST_OUTCOME, LARGEST_PART, bounded
from streammesh.tasks.records import place_of as queue_place_of

log = structlog.get_logger(__name__)
AT_ONCE = 500  # rows in one round trip
ROW = ("state", "meta", "attempt", "queued", "started", "ended", "worker", "outcome")
EventKey = tuple[str, str]  # id, source


class RowState(NamedTuple):
    """What an event's row says: how many deliveries it has and how many ended; `ended` None while something goes on."""

    wanted: int | None
    done: int
    failed: int
    ended: int | None
    digest: str
    published: int

    @property
    def state(self) -> str:
        """As the history names it."""
        return state_of(self.wanted, self.done, self.failed)


class EndedTask(NamedTuple):
    """An ended task, and its event."""

    record: TaskRecord
    event: EventKey


async def read_standings(
    client: redis.asyncio.Redis, keys: Keys, events: Sequence[EventKey]
) -> dict[EventKey, RowState]:
    """Where events stand; those that Redis does not know (any more) are left out."""
    found: dict[EventKey, RowState] = {}
    for begin in range(0, len(events), AT_ONCE):
        page = events[begin : begin + AT_ONCE]
        pipeline = client.pipeline(transaction=False)
        for event_id, source in page:
            fields = [f"{part}:{source}" for part in ("at", "want", "done", "failed", "notes")]
            pipeline.hmget(keys.event(event_id), fields)
        answers = await pipeline.execute(raise_on_error=False)
        for event, answer in zip(page, answers, strict=True):
            row = there(answer, None)
            if row is None or row[0] is None:
                continue
            try:
                found[event] = _standing(*row)
            except (ValueError, Malformed) as error:
                log.error("event.unreadable", event_id=event[0][:100], reason=repr(error)[:200])
    return found


def _standing(
    at: bytes, want: bytes | None, done: bytes | None, failed: bytes | None, notes: bytes | None
) -> RowState:
    _, published, digest, _ = at.decode().split(" ", 3)
    int(digest[:8], 16)
    wanted, ended = None if want is None else number(want), None
    if wanted is not None and number(done or b"0") >= wanted:
        last = (notes or b"").rpartition(b" ")[2]
        ended = place_of(last.decode())[0] if last else moment(published)
    return RowState(wanted, number(done or b"0"), number(failed or b"0"), ended, digest, moment(published))


def event_record(
    domain: str, position: str, envelope: bytes, standing: RowState | None
) -> EventRecord | None:
    """An entry of an event stream; None for what is no event: the dispatcher makes a dead letter of that.

    An event of which Redis knows nothing (any more) counts as completed when it was published.
    """
    try:
        if plain_json.is_crowded(bounded(envelope, LARGEST), MAX_VALUES):
            return None
        facts = orjson.loads(envelope)
        at, seq = place_of(position)
        values = [facts[name] for name in ("id", "source", "type")]
        values += [facts.get("subject"), facts.get("correlationid")]
        texts = [None if value is None else _text(value) for value in values]
        text = kept_text(envelope.decode())
    except (ValueError, KeyError, TypeError, AttributeError, Malformed):
        return None
    id, source, event_type, subject, correlation = texts
    if id is None or source is None or event_type is None:
        return None
    now = standing or RowState(None, 0, 0, at, "", at)
    state = now.state if standing else "completed"
    return EventRecord(
        *(day_of(at), id, source, at, seq, domain, event_type, subject, correlation, state),
        *(now.wanted, now.done, now.failed, now.ended, text),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str | int) or len(str(value)) > MAX_ATTRIBUTE:
        raise Malformed("it is no attribute")
    return kept_text(str(value))


async def read_ended(
    client: redis.asyncio.Redis, keys: Keys, entries: Iterable[tuple[str, Mapping[bytes, bytes]]]
) -> list[EndedTask]:
    """The tasks of entries of the stream of ended ones, (position, fields) each, as their rows say it.

    A task that goes on again (it was replayed) is left out: it will end once more.
    """
    asked = [(position, (fields.get(b"k") or b"").decode("utf-8", "replace")) for position, fields in entries]
    found = []
    for begin in range(0, len(asked), AT_ONCE):
        page = asked[begin : begin + AT_ONCE]
        pipeline = client.pipeline(transaction=False)
        for _, task_id in page:
            pipeline.hmget(keys.task(task_id), ROW)
        answers = await pipeline.execute(raise_on_error=False)
        for (position, task_id), answer in zip(page, answers, strict=True):
            row = there(answer, None)
            if row is None or row[0] is None or row[0].decode("utf-8", "replace") not in names.ENDED:
                continue
            try:
                found.append(_task(task_id, position, *row))
            except (ValueError, KeyError, TypeError, AttributeError, Malformed) as error:
                log.error("task.unreadable", task_id=task_id[:64], reason=repr(error)[:200])
    return found


def _task(task_id: str, position: str, state: bytes, meta: bytes, *rest: bytes | None) -> EndedTask:
    attempt, queued, started, ended, worker, outcome = rest
    about = orjson.loads(bounded(meta, LARGEST_PART))
    event, task = about["event"], about["task"]
    at, seq = place_of(position)
    published = place_of(event["entry"])[0] if "entry" in event else at
    queue, priority = queue_place_of(about)
    text = bounded(outcome or b"{}", LARGEST_OUTCOME).decode()
    subject, correlation = event.get("subject"), event.get("correlation")
    record = TaskRecord(
        day=day_of(published),
        id=kept_text(task_id),
        event_id=_text(event["id"]),
        event_source=_text(event["source"]),
        event_type=_text(event["type"]),
        event_subject=None if subject is None else _text(subject),
        correlation=None if correlation is None else _text(correlation),
        name=_text(task["name"]),
        service=_text(task["service"]),
        queue=kept_text(queue),
        priority=priority,
        state=state.decode(),
        attempt=number(attempt or b"0"),
        at=at,
        seq=seq,
        queued=moment(queued) if queued else None,
        started=moment(started) if started else None,
        ended=moment(ended) if ended else None,
        worker=kept_text(worker.decode("utf-8", "replace")) if worker else None,
        outcome=kept_text(text),
    )
    return EndedTask(record, (event["id"], event["source"]))


def ended_of(event: EventKey, standing: RowState) -> Ended | None:
    """What is let go of an event; None while something of it goes on."""
    if standing.ended is None:
        return None
    return Ended(*event, standing.digest, standing.published, standing.ended, str(standing.done))


def end_of(day: int, event: EventKey, standing: RowState) -> EventEnd:
    """What became of an event that was archived before it had ended."""
    id, source = map(kept_text, event)
    return EventEnd(
        day, id, source, standing.state, standing.wanted, standing.done, standing.failed, standing.ended
    )
