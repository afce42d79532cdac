"""Numbers, times and names as a report prints them. Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from datetime import date, datetime
from zoneinfo import ZoneInfo

MINUS = "\u2212"
DASH = "–"  # what stands where there is no number
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Cc control, Cs surrogate, Cn/Co unassigned and private; and what turns the text behind it around.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Cn", "Co"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MARKS = frozenset("\u061c\u200e\u200f")  # say of one place which way it runs, and show nothing


def printable(text: str, most: int = 80) -> str:
    """Return one line of at most `most` characters that can stand in XML and cannot disturb the text around it.

    What has no shape is spelled out, `[U+0007]`, so that two names that differ look different.
    """
    cleaned = "".join(map(_shape, text))
    line = " ".join(cleaned.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _shape(char: str) -> str:
    if char.isprintable() and char not in _MARKS:
        return char
    if char.isspace() and char not in "\x1c\x1d\x1e\x1f":
        return " "
    if char in _TURNING or unicodedata.category(char) in _UNPRINTABLE:
        return f"[U+{ord(char):04X}]"
    return "" if char in _MARKS else char


def label(column: str) -> str:
    """A column's name as a heading: `time_of_day` is `Time of day`."""
    text = printable(column.replace("_", " "), 40)
    return text[:1].upper() + text[1:]


def decimals(values: Iterable[float | None]) -> int:
    """How many decimals a column of such numbers needs: none for whole ones, more the smaller they are."""
    known = [abs(value) for value in values if value is not None]
    if all(value.is_integer() for value in map(float, known)):
        return 0
    largest = max(known)
    if largest >= 10_000:
        return 0
    if largest >= 100:
        return 1
    if largest >= 1:
        return 2
    return min(8, 2 - math.floor(math.log10(largest)))


def number(value: float | None, places: int | None = None) -> str:
    """`25678594.0` as `25,678,594`; None as a dash; beyond fifteen digits in powers of ten."""
    if value is None:
        return DASH
    if abs(value) >= 1e15:
        return f"{value:.3e}"
    places = decimals([value]) if places is None else places
    text = f"{value:,.{places}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def compact(value: float | None) -> str:
    """`25678594` as `25.7 M`; below a hundred thousand in full."""
    if value is None:
        return DASH
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e5, "k")):
        if size <= abs(value) < 1e15:
            scaled = value / (1e3 if suffix == "k" else size)
            return f"{number(scaled, 0 if abs(scaled) >= 100 else 1)}\u00a0{suffix}"
    return number(value)


def with_unit(text: str, unit: str | None) -> str:
    """The number's text with its unit behind it."""
    return f"{text}\u00a0{unit}" if unit else text


def share(part: float, whole: float) -> str:
    """`35.1%`; less than a tenth of a percent is said as such."""
    percent = 100 * part / whole if whole else 0.0
    return "<0.1%" if 0 < percent < 0.1 else f"{percent:.1f}%"


def seconds(value: float | None) -> str:
    """A length of time: `850 µs`, `12.4 ms`, `3.20 s`, `4 min 10 s`, `2 h 05 min`."""
    if value is None:
        return DASH
    if value < 0.0009995:  # each limit is where the text would round up into the next unit
        return f"{value * 1e6:.0f}\u00a0µs"
    if value < 0.9995:
        return f"{value * 1000:.{1 if value < 0.09995 else 0}f}\u00a0ms"
    if value < 59.95:
        return f"{value:.{2 if value < 9.995 else 1}f}\u00a0s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min\u00a0{rest:02}\u00a0s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours}\u00a0h\u00a0{minutes:02}\u00a0min"


def size(octets: int) -> str:
    """`403 kB`: powers of a thousand, as the SI has it."""
    if octets < 1000:
        return f"{octets}\u00a0bytes"
    for unit in ("kB", "MB", "GB"):
        octets_in = octets / 1000 if unit == "kB" else octets / 1e6 if unit == "MB" else octets / 1e9
        if octets_in < 999.5 or unit == "GB":
            return f"{octets_in:.{0 if octets_in >= 10 else 1}f}\u00a0{unit}"
    raise AssertionError("unreachable")


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 row`, `4,635 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def day(value: date) -> str:
    """`22 Nov 2026`."""
    return f"{value.day} {MONTHS[value.month - 1]} {value.year}"


def moment(value: datetime, timezone: str) -> str:
    """`22 Nov 2026, 06:00 UTC`, in that time zone."""
    local = value.astimezone(ZoneInfo(timezone))
    return f"{day(local)}, {local:%H:%M} {local.tzname()}"


def bucket_label(key: str, every: str | None) -> str:
    """The key of a stretch of time as people write it: `2001-03` is `Mar 2001`; other keys as they are."""
    if every == "day":
        return day(date.fromisoformat(key))
    if every == "week":
        return f"{key[:4]} week {int(key[6:])}"
    if every == "month":
        return f"{MONTHS[int(key[5:]) - 1]} {key[:4]}"
    if every == "quarter":
        return f"{key[:4]} {key[5:]}"
    return key
