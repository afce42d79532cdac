"""What becomes of an attempt, and when the next one starts."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from streammesh import Service
from streammesh.errors import Fail, InvalidManifest, Reject, Retry
from streammesh.tasks.verdict import MAX_LOST, GiveUp, RetryPolicy, TryAgain, after_error, lost_too_often

POLICY = RetryPolicy(retries=3, base=timedelta(seconds=2), cap=timedelta(seconds=60))


def test_an_ordinary_error_is_tried_again_until_the_retries_are_used_up():
    decisions = [after_error(ValueError("no"), attempt, POLICY, 0.5) for attempt in (1, 2, 3, 4)]

    assert [type(d) for d in decisions] == [TryAgain, TryAgain, TryAgain, GiveUp]


def test_a_rejection_is_given_up_at_once_with_its_words():
    decision = after_error(Reject("negative total"), 1, POLICY, 0.5)

    assert isinstance(decision, GiveUp)
    assert decision.failure.reason == "negative total"


def test_only_what_is_the_inputs_fault_is_a_refusal():
    class Numbered(BaseModel):
        n: int

    with pytest.raises(ValidationError) as invalid:
        Numbered(n="many")

    def refused(error):
        return after_error(error, 4, POLICY, 0.5).failure.refused

    assert refused(Reject("a bad address")) and refused(invalid.value)
    assert (
        not refused(Fail("our key expired")) and not refused(ValueError("no")) and not refused(Retry(after=1))
    )


def test_a_failure_that_no_retry_mends_is_given_up_at_once():
    decision = after_error(Fail("our key expired"), 1, POLICY, 0.5)

    assert isinstance(decision, GiveUp)
    assert decision.failure.reason == "our key expired"


def test_words_that_no_json_can_hold_are_written_out():
    failure = after_error(OSError("no file b\udce4r.txt"), 1, POLICY, 0.5).failure

    assert failure.reason == "no file b\\udce4r.txt"
    assert "b\\udce4r.txt" in failure.traceback
    assert failure.traceback.encode()


def test_an_error_that_cannot_say_what_it_is_is_told_by_its_class():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("not even this")

    assert after_error(Mute(), 1, POLICY, 0.5).failure.reason == "Mute"
    assert after_error(Reject(cast("str", 404)), 1, POLICY, 0.5).failure.reason == "404"


async def print_nothing(data: dict[str, int]) -> None: ...


def test_a_retry_says_itself_when():
    again = after_error(Retry(after=7), 1, POLICY, 0.5)
    assert isinstance(again, TryAgain) and again.wait == timedelta(seconds=7)


def test_a_pause_that_is_no_duration_fails_where_the_handler_raises_it():
    for wrong in ("10m", [600]):
        with pytest.raises(TypeError, match="should be seconds or a timedelta"):
            Retry(after=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a year at most"):
        Retry(after=timedelta.max)  # its moment would be no number that the ledger can read


def test_a_backoff_of_more_than_a_year_is_refused_where_it_is_declared():
    for wrong in ({"backoff": "400d"}, {"backoff_cap": timedelta.max}):
        with pytest.raises(InvalidManifest, match="a year at most"):
            Service("late_worker").on("order.placed", **wrong)(print_nothing)


def test_a_retry_counts_as_an_attempt():
    assert isinstance(after_error(Retry(after=7), 4, POLICY, 0.5), GiveUp)


@given(attempt=st.integers(1, 10_000), random=st.floats(0, 1, exclude_max=True))
def test_waits_stay_between_a_tenth_of_the_base_and_the_cap(attempt, random):
    wait = POLICY.delay(attempt, random)

    assert timedelta(seconds=0.2) <= wait <= POLICY.cap


def test_the_ceiling_doubles_with_each_attempt():
    ceilings = [POLICY.delay(attempt, 0.999999).total_seconds() for attempt in (1, 2, 3, 4)]

    assert ceilings == pytest.approx([2, 4, 8, 16], rel=0.01)


def test_a_task_that_takes_its_workers_down_is_given_up():
    assert lost_too_often(MAX_LOST - 1) is None
    assert isinstance(lost_too_often(MAX_LOST), GiveUp)


def test_a_failure_says_what_went_wrong_and_where():
    failure = after_error(ValueError("no such user"), 4, POLICY, 0.5).failure

    assert (failure.reason, failure.kind) == ("no such user", "ValueError")
    assert "ValueError: no such user" in failure.traceback
