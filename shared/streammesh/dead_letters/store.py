"""Finds and drops dead letters; replaying them is in `replaying.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from heapq import heappush, heappushpop
from typing import Any

import redis.asyncio

from streammesh import lua, plain_json
from streammesh.dead_letters.letters import DeadLetter, DeadLetterFilter, LetterPlace, parse
from streammesh.keys import Keys
from streammesh.lua.services import DropDeadLettersScript
from streammesh.redisio.turns import Turns

MOST_MS = 2**53  # a score is exact up to here
CHUNK = 200  # letters read in one round trip
AT_FIRST = 16  # of a service, where the newest of all are looked for
MOST_LOOKED_AT = 5_000  # letters of one service that one page looks through for those that fit


@dataclass(frozen=True, slots=True)
class LetterPage:
    """Some letters, newest first; `next` is the place to go on from, None at the end.

    A page may have fewer letters than were asked for, none even, and still a `next`: a rare one is looked for.
    """

    letters: list[DeadLetter]
    next: LetterPlace | None


class DeadLetters:
    """The dead letters of one mesh."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self.client, self.keys = client, keys

    async def services(self) -> list[str]:
        """Every service, or other queue, that ever had one."""
        return sorted(
            name.decode("utf-8", "replace") for name in await self.client.smembers(self.keys.dead_services())
        )

    async def count(self) -> dict[str, int]:
        """How many there are, by service."""
        services = await self.services()
        pipeline = self.client.pipeline(transaction=False)
        for service in services:
            pipeline.zcard(self.keys.dead_index(service))
        return dict(zip(services, await pipeline.execute(), strict=True))

    async def page(
        self,
        wanted: DeadLetterFilter,
        *,
        limit: int = 50,
        before: LetterPlace | None = None,
        may_see: Callable[[DeadLetter], bool] = lambda _: True,
    ) -> LetterPage:
        """The newest letters that fit, older than `before`."""
        found: list[DeadLetter] = []
        newest: list[
            LetterPlace
        ] = []  # a heap of the places that a page can have: what is older needs no look
        reached: LetterPlace | None = None  # what is older was not looked at in every service
        for service in await self._services(wanted):
            looked_at, mine = 0, 0
            async for letter in self.walk(service, wanted, before=before, at_first=AT_FIRST):
                looked_at += 1
                if len(newest) > limit and letter.place < newest[0]:
                    break
                if wanted.fits(letter) and may_see(letter):
                    found.append(letter)
                    mine += 1
                    (heappush if len(newest) <= limit else heappushpop)(newest, letter.place)
                if mine > limit or looked_at >= MOST_LOOKED_AT:
                    reached = max(reached, letter.place) if reached else letter.place
                    break
        found.sort(key=lambda letter: letter.place, reverse=True)
        found = [letter for letter in found if reached is None or letter.place >= reached]
        if len(found) > limit:
            return LetterPage(found[:limit], found[limit - 1].place)
        return LetterPage(found, reached)

    async def get(self, letter_id: str) -> DeadLetter | None:
        """One letter, None when there is no such one."""
        services = await self.services()
        pipeline = self.client.pipeline(transaction=False)
        for service in services:
            pipeline.hget(self.keys.dead(service), letter_id)
            pipeline.zscore(self.keys.dead_index(service), letter_id)
        answers = await pipeline.execute()
        for service, raw, score in zip(services, answers[::2], answers[1::2], strict=True):
            if raw:
                return parse(service, letter_id, _ms(score or 0.0), raw)
        return None

    async def content(self, letter: DeadLetter) -> dict[str, Any]:
        """What lies in a letter: `envelope` (the whole event), or `raw` (text of what could not be read)."""
        parts = await self.client.hmget(
            self.keys.dead_entries(letter.service), *(f"{part}:{letter.id}" for part in "hbe")
        )
        return _content(letter, *parts)

    async def drop(self, letters: Iterable[DeadLetter]) -> int:
        """Drop letters for good; answers how many of them were still there."""
        by_service: dict[str, list[str]] = {}
        for letter in letters:
            by_service.setdefault(letter.service, []).append(letter.id)
        dropped = 0
        for service, ids in by_service.items():
            for first in range(0, len(ids), CHUNK):
                dropped += await lua.run(self.client, self._drop_call(service, ids[first : first + CHUNK]))
        return dropped

    async def matching(self, wanted: DeadLetterFilter, limit: int) -> tuple[list[DeadLetter], bool]:
        """The oldest letters that fit, at most `limit`, in order; and whether there are more."""
        if wanted.ids:
            named = [
                letter for i in sorted(wanted.ids) if (letter := await self.get(i)) and wanted.fits(letter)
            ]
            named.sort(key=lambda letter: letter.place)
            return named[:limit], len(named) > limit
        found: list[DeadLetter] = []
        for service in await self._services(wanted):
            mine = 0
            async for letter in self.walk(service, wanted, newest_first=False):
                if wanted.fits(letter):
                    found.append(letter)
                    mine += 1
                    if mine > limit:
                        break
        found.sort(key=lambda letter: letter.place)
        return found[:limit], len(found) > limit

    async def walk(
        self,
        service: str,
        wanted: DeadLetterFilter,
        *,
        before: LetterPlace | None = None,
        newest_first: bool = True,
        at_first: int = CHUNK,
    ) -> AsyncIterator[DeadLetter]:
        """Every letter of one service in the filter's time, in order; what else the filter says is not asked here.

        The first look takes `at_first` of them, each further one more.
        """
        chunk = at_first
        low = str(wanted.since_ms or 0)
        highest = [ms for ms in (wanted.until_ms, before and before[0]) if ms is not None]
        high = str(min(highest)) if highest else "+inf"
        ends = (high, low) if newest_first else (low, high)
        offset, turns = 0, Turns()
        while True:
            found = await self.client.zrange(
                *(self.keys.dead_index(service), *ends),
                desc=newest_first,
                byscore=True,
                withscores=True,
                offset=offset,
                num=chunk,
            )
            if not found:
                return
            chunk = min(CHUNK, 4 * chunk)
            # Letters that leave meanwhile would shift an offset; a score as the next beginning does not move.
            last = found[-1][1]
            same = sum(score == last for _, score in found)
            offset = same + (offset if same == len(found) else 0)
            begin = repr(last) if last % 1 or abs(last) > MOST_MS else str(int(last))
            ends = (begin, low) if newest_first else (begin, high)
            stored = await self.client.hmget(self.keys.dead(service), [letter_id for letter_id, _ in found])
            for (member, score), raw in zip(found, stored, strict=True):
                await turns.give()
                at, letter_id = _ms(score), member.decode("utf-8", "replace")
                if raw and (before is None or (at, letter_id, service) < before):
                    yield parse(service, letter_id, at, raw)

    async def _services(self, wanted: DeadLetterFilter) -> list[str]:
        return [wanted.service] if wanted.service else await self.services()

    def _drop_call(self, service: str, ids: list[str]) -> lua.Call[int]:
        keys = self.keys
        return DropDeadLettersScript(
            dead=keys.dead(service),
            index=keys.dead_index(service),
            entries=keys.dead_entries(service),
            ids=ids,
        ).call(int)


def _ms(score: float) -> int:
    """A score as the moment that it should be; garbage may have any, and infinities."""
    return int(min(max(score, 0.0), MOST_MS))


def _content(letter: DeadLetter, h: bytes | None, b: bytes | None, e: bytes | None) -> dict[str, Any]:
    try:
        if letter.form == "task":
            return {"envelope": plain_json.loads(b)[0][0] if b else plain_json.loads(e) if e else None}
    except (ValueError, LookupError, TypeError):
        pass
    raw = {"h": h, "b": b, "e": e}
    return {"raw": {name: part.decode("utf-8", "backslashreplace") for name, part in raw.items() if part}}
