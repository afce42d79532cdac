"""The checker finds what went wrong: each test takes a run in which all is well and breaks one thing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.faults.checker import check, check_pushed
from tests.faults.followers import Seen
from tests.faults.load import Forgotten, History, Sent
from tests.faults.mix import BY_TYPE
from tests.faults.processes import Killed
from tests.faults.records import Run
from tests.faults.witness import Facts, HandOff, Told

FOLLOWED, WORKED = "fault.followed", "fault.worked"


def told(position: int, kind: str, event: str, task: str = "") -> Told:
    return Told(f"{position}-0", kind, event, task, "fault_async", "fault.noted", b"")


class Clean:
    """Two events that were published, run and told; the first left a third behind."""

    def __init__(self) -> None:
        self.history = History(
            [
                Sent("a", "one", BY_TYPE[FOLLOWED], 1.0, accepted=1.1),
                Sent("b", "two", BY_TYPE[WORKED], 1.0, accepted=1.1),
            ]
        )
        self.facts = facts = Facts()
        self.runs: dict[str, list[Run]] = {}
        self.add("a", "one", FOLLOWED, "fault_async.follow")
        self.add("b", "two", WORKED, "fault_sync.work")
        self.add("fault_async", "three", "fault.after", "fault_sync.after")
        facts.causes[("fault_async", "three")] = "one"

    def add(self, source: str, event: str, kind: str, name: str) -> None:
        facts, task = self.facts, f"task-{event}"
        facts.stored[(source, event)].append(1_000)
        facts.types[(source, event)] = kind
        facts.handed[(source, event, name)].append(HandOff(1_001, task))
        facts.ended[task].append((1_003, "succeeded"))
        at = 10 * len(facts.told)
        facts.told += [
            told(at + 1, "task.succeeded", event, task),
            told(at + 2, "event.completed", event),
        ]
        self.runs[task] = [Run(name, task, source, event, 1, 7, 7, 1.001, 1.002)]

    def check(self, **options: Any) -> Any:
        return check(self.history, self.facts, self.runs, **options)


@pytest.fixture
def clean() -> Any:
    return Clean()


def test_a_run_in_which_all_is_well_is_clean(clean: Any) -> None:
    found = clean.check(strict=True)

    assert found.clean
    assert (found.events, found.repeated) == (3, 0)


def lose_an_accepted_event(run: Clean) -> None:
    del run.facts.stored[("b", "two")]


def lose_a_hand_off(run: Clean) -> None:
    del run.facts.handed[("b", "two", "fault_sync.work")]


def never_end(run: Clean) -> None:
    del run.facts.ended["task-two"]


def end_wrongly(run: Clean) -> None:
    run.facts.ended["task-two"] = [(1_003, "failed")]


def tell_no_end_of_a_task(run: Clean) -> None:
    run.facts.told = [note for note in run.facts.told if note.task != "task-two"]


def tell_no_end_of_an_event(run: Clean) -> None:
    run.facts.told = [n for n in run.facts.told if (n.event, n.type) != ("two", "event.completed")]


def lose_what_followed(run: Clean) -> None:
    for facts in (run.facts.stored, run.facts.causes):
        del facts[("fault_async", "three")]
    del run.facts.handed[("fault_async", "three", "fault_sync.after")]


def succeed_without_a_run(run: Clean) -> None:
    run.runs["task-two"] = []


def succeed_after_a_run_that_was_killed(run: Clean) -> None:
    run.runs["task-two"][0].through = None


def refuse_an_event(run: Clean) -> None:
    run.history.sent[0].refused = "409 conflict"


def let_go_early(run: Clean) -> None:
    run.facts.holds[("b", "two")] = 5_000


@pytest.mark.parametrize(
    "break_it",
    [
        lose_an_accepted_event, lose_a_hand_off, never_end, end_wrongly, tell_no_end_of_a_task,
        tell_no_end_of_an_event, lose_what_followed, succeed_without_a_run, succeed_after_a_run_that_was_killed,
        refuse_an_event, let_go_early,
    ],
)  # fmt: skip
def test_what_is_missing_is_lost(clean: Any, break_it: Any) -> None:
    break_it(clean)

    assert clean.check().lost


def store_twice(run: Clean) -> None:
    run.facts.stored[("b", "two")].append(2_000)


def store_what_nobody_published(run: Clean) -> None:
    run.add("c", "nobody", WORKED, "fault_sync.work")


def hand_over_twice(run: Clean) -> None:
    run.facts.handed[("b", "two", "fault_sync.work")].append(HandOff(2_000, "task-two"))


def hand_over_twice_under_another_id(run: Clean) -> None:
    run.facts.handed[("b", "two", "fault_sync.work")].append(HandOff(2_000, "task-other"))


def hand_over_what_nobody_wants(run: Clean) -> None:
    run.facts.handed[("b", "two", "fault_async.note")].append(HandOff(2_000, "task-other"))


def use_one_task_for_two(run: Clean) -> None:
    run.facts.handed[("b", "two", "fault_sync.work")] = [HandOff(1_001, "task-one")]


def end_twice(run: Clean) -> None:
    run.facts.ended["task-two"].append((2_000, "succeeded"))


def tell_an_end_twice(run: Clean) -> None:
    run.facts.told.append(told(99, "task.failed", "two", "task-two"))


def tell_an_events_end_twice(run: Clean) -> None:
    run.facts.told.append(told(99, "event.completed", "two"))


def leave_two_behind(run: Clean) -> None:
    run.add("fault_async", "four", "fault.after", "fault_sync.after")
    run.facts.causes[("fault_async", "four")] = "one"


def leave_one_behind_without_success(run: Clean) -> None:
    run.facts.ended["task-one"] = [(1_003, "failed")]


@pytest.mark.parametrize(
    "break_it",
    [
        store_twice, store_what_nobody_published, hand_over_twice, hand_over_twice_under_another_id,
        hand_over_what_nobody_wants, use_one_task_for_two, end_twice, tell_an_end_twice, tell_an_events_end_twice,
        leave_two_behind, leave_one_behind_without_success,
    ],
)  # fmt: skip
def test_what_happened_again_is_doubled(clean: Any, break_it: Any) -> None:
    break_it(clean)

    assert clean.check().doubled


def test_a_second_run_is_doubled_only_where_nobody_was_killed(clean: Any) -> None:
    clean.runs["task-two"].append(Run("work", "task-two", "b", "two", 2, 8, 8, 3.5, 3.6))
    killed = Killed("worker", 7, 1.1, alone=False)

    assert clean.check(kills=[killed]).clean
    assert clean.check(kills=[killed]).repeated == 1
    assert clean.check(strict=True).doubled
    assert clean.check(kills=[replace(killed, pid=8)]).doubled, "who had it first lived"
    assert clean.check(kills=[replace(killed, at=9.0)]).doubled, "he was killed later"


def test_a_run_after_one_that_raised_is_a_retry(clean: Any) -> None:
    first = clean.runs["task-two"][0]
    clean.runs["task-two"].insert(0, replace(first, attempt=0, began=1.0, through=None, raised=1.0005))

    assert clean.check().clean


def test_what_a_killed_server_forgot_within_its_second_is_counted_apart(clean: Any) -> None:
    lose_an_accepted_event(clean)

    found = clean.check(forgetful=[Forgotten(1.5, 1.5)])

    assert found.clean
    assert found.forgotten
    assert clean.check(forgetful=[Forgotten(9.0, 9.0)]).lost, (
        "long before it was killed it had written everything"
    )


@pytest.mark.parametrize(
    ("ids", "what"),
    [(["1-0"], "lost"), (["1-0", "2-0", "2-0"], "doubled"), (["2-0", "1-0"], "doubled"), (["1-0", "2-0", "3-0"], "doubled")],
)  # fmt: skip
def test_a_client_that_misses_something_or_hears_it_twice_is_found(clean: Any, ids: Any, what: Any) -> None:
    clean.facts.told = [told(1, "task.succeeded", "two", "task-two"), told(2, "event.completed", "two")]
    found = clean.check()
    found.lost, found.doubled = [], []

    check_pushed(found, clean.facts, [Seen(ids)])

    assert getattr(found, what)
    assert not getattr(found, "lost" if what == "doubled" else "doubled")
