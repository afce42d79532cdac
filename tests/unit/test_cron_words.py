"""What Celery's `crontab` and people write as cron expressions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from celery.schedules import crontab
from hypothesis import given
from hypothesis import strategies as st
from streammesh.schedules.cron import parse_cron
from streammesh.schedules.cron_words import NICKNAMES, spelled_out

WEEK = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("0 9 * * monday", "0 9 * * MON"),
        ("0 9 * * Mondays,THURS", "0 9 * * MON,THU"),
        ("0 9 * * mon-fri", "0 9 * * MON-FRI"),
        ("0 9 * * fri-mon", "0 9 * * 5,6,0,1"),
        ("0 22-2 * * *", "0 22,23,0,1,2 * * *"),
        ("0 22-2/2 * * *", "0 22,0,2 * * *"),
        ("0 0 1 january,sept *", "0 0 1 JAN,SEP *"),
        ("0 0 * nov-feb *", "0 0 * 11,12,1,2 *"),
        ("*/5 8-17/3 1-7,15 * *", "*/5 8-17/3 1-7,15 * *"),
        ("0 9 * * monday#2", "0 9 * * MON#2"),
        ("0 9 L * *", "0 9 L * *"),
        (" @Daily ", "0 0 * * *"),
    ],
)
def test_it_means_what_cron_would_have_been_told(written, means):
    assert spelled_out(written) == means
    parse_cron(written, "UTC")


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_a_nickname_is_a_schedule(nickname):
    assert next(parse_cron(nickname, "Europe/Berlin").after(0)) > 0


@pytest.mark.parametrize(
    "wrong", ["@reboot", "@dayly", "0 9 * * mondy", "0 9 * * monday-", "0 25-2 * * *", "daily"]
)
def test_what_is_none_is_refused_with_a_reason(wrong):
    with pytest.raises(ValueError, match=r"\w"):
        parse_cron(wrong, "UTC")


def ranges(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    step = st.integers(1, 7)
    whole = st.builds(lambda a, b: f"{a}-{b}", number, number)
    item = st.one_of(number.map(str), whole, st.builds(lambda r, s: f"{r}/{s}", whole, step))
    return st.one_of(
        st.just("*"), step.map(lambda s: f"*/{s}"), st.lists(item, min_size=1, max_size=3).map(",".join)
    )


@given(
    ranges(0, 59),
    ranges(0, 23),
    st.one_of(
        st.just("*"),
        st.sampled_from(WEEK),
        st.builds("{}-{}".format, st.sampled_from(WEEK), st.sampled_from(WEEK)),
    ),
)
def test_minutes_hours_and_days_are_those_of_celery_s_crontab(minute, hour, weekday):
    theirs = crontab(minute=minute, hour=hour, day_of_week=weekday)
    dues = parse_cron(f"{minute} {hour} * * {weekday}", "UTC").after(1_790_000_000_000)

    for _ in range(20):
        at = datetime.fromtimestamp(next(dues) / 1000, UTC)
        assert at.minute in theirs.minute
        assert at.hour in theirs.hour
        assert (at.weekday() + 1) % 7 in theirs.day_of_week
