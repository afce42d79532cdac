"""Cron expressions as people and Celery's `crontab` write them, in the words that cronsim reads. Pure.

`monday`, `mondays` and `Thurs` are days, `september` is a month; a range may go round the end of its field (`fri-mon`,
`22-2`); `@daily` and the like stand for a whole expression.
"""

from __future__ import annotations

import re

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_FIELDS = ((0, 59, ()), (0, 23, ()), (1, 31, ()), (1, 12, MONTHS), (0, 6, DAYS))  # first, last, their names
_RANGE = re.compile(r"([0-9]{1,2}|[a-z]{3,})-([0-9]{1,2}|[a-z]{3,})(?:/([0-9]{1,4}))?", re.IGNORECASE)
_WORD = re.compile(r"[a-z]{3,}", re.IGNORECASE)


def spelled_out(expression: str) -> str:
    """An expression with its nickname, its names and its ranges round the end written out.

    What is not understood is left as it is, for who reads it next to refuse. Raises ValueError for a nickname that
    says no times.
    """
    fields = expression.split()
    if len(fields) == 1 and fields[0].startswith("@"):
        if fields[0].lower() not in NICKNAMES:
            raise ValueError(f"{expression.strip()!r} is none of {', '.join(NICKNAMES)}")
        return NICKNAMES[fields[0].lower()]
    if len(fields) != len(_FIELDS):
        return " ".join(fields)
    return " ".join(
        ",".join(_item(item, *facts) for item in field.split(","))
        for field, facts in zip(fields, _FIELDS, strict=True)
    )


def _item(item: str, first: int, last: int, names: tuple[str, ...]) -> str:
    found = _RANGE.fullmatch(item)
    if found is None:
        return _WORD.sub(lambda word: _short(word[0], first, names), item)
    begin, end = (_number(text, first, names) for text in found.group(1, 2))
    step = int(found[3] or 1)
    if begin is None or end is None or step < 1 or begin < end:
        return _WORD.sub(lambda word: _short(word[0], first, names), item)
    if not (first <= end and begin <= last):
        return item
    if begin == end:  # cronsim takes `3-3/2` for `3/2`
        return str(begin)
    round_the_end = [*range(begin, last + 1), *range(first, end + 1)]
    return ",".join(str(number) for number in round_the_end[::step])


def _number(text: str, first: int, names: tuple[str, ...]) -> int | None:
    return int(text) if text.isdigit() else _named(text, first, names)


def _named(word: str, first: int, names: tuple[str, ...]) -> int | None:
    word = word.lower()
    for number, name in enumerate(names, first):
        if name.startswith(word) or word == f"{name}s":
            return number
    return None


def _short(word: str, first: int, names: tuple[str, ...]) -> str:
    number = _named(word, first, names)
    return word if number is None else names[number - first][:3].upper()
