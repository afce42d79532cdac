"""One turn of one webhook under its lease: takes what is due, sends it, settles it, until nothing is due.

What is sent and not settled when the process ends is sent again by whoever takes the webhook over: at least once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import orjson
import redis.asyncio
from streammesh import lua
from streammesh.clock import rfc3339_ms
from streammesh.keys import Keys
from streammesh.webhooks.definition import Webhook, position_of
from streammesh.webhooks.deliveries import DeliveryOutcome, Result, TakenDelivery, WebhookTurn, settle_call
from streammesh.webhooks.signature import signed_headers

from services.webhook_worker.sender import WebhookSender
from services.webhook_worker.settings import WebhookSettings
from services.webhook_worker.verdict import ReceiverAnswer, judge

TURN_SECONDS = 2.0  # then others have theirs
SLOW_SECONDS = 1.0  # a webhook that answers no faster leaves its place to others
NOTHING = WebhookTurn([], 0, None, None)
CONTENT_TYPE = {"content-type": "application/json"}
UNOPENED = "its secret is sealed with a key that the webhook worker does not have: WEBHOOK_SECRET_KEYS"


@dataclass(slots=True)
class Counts:
    """What one process has done."""

    delivered: int = 0
    failed: int = 0
    given_up: int = 0


class Session:
    """One turn. `slow` is called once, when an answer takes its time; `gone` is set where the receiver said 410."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        keys: Keys,
        webhook: Webhook,
        token: str,
        sender: WebhookSender,
        settings: WebhookSettings,
        counts: Counts,
        slow: Callable[[], None] = lambda: None,
        *,
        failing: bool = False,
    ) -> None:
        self._client, self._keys, self._webhook, self._token = client, keys, webhook, token
        self._sender, self._settings, self._counts, self._slow = sender, settings, counts, slow
        self._seal = settings.seal
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._ended: list[Result] = []
        self._woken = asyncio.Event()
        self._began = time.monotonic()
        self._hold_ms = 0
        self._holds = False  # nothing more is tried in this turn
        self._failures = 0
        self.failing = failing  # one request at a time, until one arrives
        self._is_slow = False
        self.stopping = False
        self.gone = False
        self.failing_since_ms: int | None = None
        self.next_ms: int | None = None

    @property
    def under_way(self) -> int:
        """Requests that are under way."""
        return len(self._flights)

    async def run(self) -> bool:
        """Have the turn; answers whether there was one."""
        concurrency = 1 if self.failing else self._settings.concurrency
        held = await self._step(concurrency, claims=True)
        if held is None:
            return False
        while held.taken or self._flights or self._ended:
            self._start(held)
            if self._flights and not self._ended:
                await self._next_end()
            self._holds = self._holds or self._hold_ms > 0 or self.stopping
            over = self._holds or time.monotonic() - self._began > TURN_SECONDS
            held = await self._step(0 if over else concurrency - len(self._flights)) or NOTHING
            self._holds = (
                self._holds or held is NOTHING
            )  # somebody else has it: what is under way still counts
            concurrency = 1 if held.failures else self._settings.concurrency
        return True

    async def _step(self, room: int, claims: bool = False) -> WebhookTurn | None:
        results, self._ended = self._ended, []
        hold, self._hold_ms = self._hold_ms, 0
        call = settle_call(
            self._keys,
            self._webhook,
            self._token,
            claims=claims,
            lease_ms=int(self._settings.lease.total_seconds() * 1000),
            room=max(0, room),
            under_way=len(self._flights),
            hold_ms=hold,
            results=results,
        )
        held = await lua.run(self._client, call)
        if held is not None:
            self._failures = held.failures
            self.failing_since_ms, self.next_ms = held.failing_since_ms, held.next_ms
        return held

    def _start(self, held: WebhookTurn) -> None:
        now_ms = time.time_ns() // 1_000_000
        if self._webhook.ordered:
            if held.taken:
                self._flights["ordered"] = asyncio.create_task(self._send_in_order(held.taken))
            return
        for taken in held.taken:
            if taken.delivery in self._flights:
                continue
            if self._is_too_old(taken, now_ms):
                self._expire(taken, now_ms)
            else:
                self._flights[taken.delivery] = asyncio.create_task(self._send(taken))

    async def _next_end(self) -> None:
        """Wait until a request has ended; what takes its time is said once."""
        self._woken.clear()
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            if not self._is_slow:
                self._is_slow = True
                self._slow()
            await self._woken.wait()
        await asyncio.sleep(0)  # those that end in the same turn of the loop are settled together

    async def _send_in_order(self, some: list[TakenDelivery]) -> None:
        """One after the other, up to the first that does not arrive; what is after it stays where it was."""
        try:
            for taken in some:
                now_ms = time.time_ns() // 1_000_000
                if self._is_too_old(taken, now_ms):
                    self._expire(taken, now_ms)
                elif not await self._try(taken) or self.stopping:
                    return
        finally:
            del self._flights["ordered"]
            self._woken.set()

    async def _send(self, taken: TakenDelivery) -> None:
        try:
            await self._try(taken)
        finally:
            del self._flights[taken.delivery]
            self._woken.set()

    async def _try(self, taken: TakenDelivery) -> bool:
        """Send it once, and note what came of it; answers whether it is over."""
        now_ms = time.time_ns() // 1_000_000
        answer = await self._post(taken, now_ms)
        self.gone = self.gone or answer.gone
        verdict = judge(
            answer,
            attempts=taken.attempts,
            failures=self._failures,
            age_ms=max(0, now_ms - taken.queued_ms),
            settings=self._settings,
        )
        hold = verdict.hold_ms
        if self._webhook.ordered and verdict.outcome is DeliveryOutcome.AGAIN:
            hold = max(hold, verdict.wait_ms)
        self._hold_ms = max(self._hold_ms, hold)
        match verdict.outcome:
            case DeliveryOutcome.DELIVERED:
                self._counts.delivered += 1
            case DeliveryOutcome.GIVEN_UP:
                self._counts.given_up += 1
            case _:
                self._counts.failed += 1
        noted = _attempt(taken, verdict.outcome, answer, now_ms, verdict.wait_ms)
        self._ended.append(Result(taken.delivery, verdict.outcome, verdict.wait_ms, noted))
        self._woken.set()
        return verdict.outcome is not DeliveryOutcome.AGAIN

    async def _post(self, taken: TakenDelivery, now_ms: int) -> ReceiverAnswer:
        keys = self._seal.keys(self._webhook.secrets, self._webhook.id, now_ms)
        if not keys:  # nothing goes unsigned; it is tried again, and the attempts say why
            return ReceiverAnswer(None, UNOPENED)
        signed = signed_headers(keys, taken.delivery, now_ms // 1000, taken.body)
        return await self._sender.post(self._webhook.url, taken.body, CONTENT_TYPE | signed)

    def _is_too_old(self, taken: TakenDelivery, now_ms: int) -> bool:
        return now_ms - taken.queued_ms > self._settings.retry_for.total_seconds() * 1000

    def _expire(self, taken: TakenDelivery, now_ms: int) -> None:
        self._counts.given_up += 1
        late = ReceiverAnswer(None, "it waited too long for this URL to work again")
        noted = _attempt(taken, DeliveryOutcome.EXPIRED, late, now_ms, 0)
        self._ended.append(Result(taken.delivery, DeliveryOutcome.EXPIRED, 0, noted))
        self._woken.set()


def _attempt(
    taken: TakenDelivery, outcome: DeliveryOutcome, answer: ReceiverAnswer, at_ms: int, wait_ms: int
) -> bytes:
    """As it is remembered, and as the API tells it."""
    words = {
        DeliveryOutcome.GIVEN_UP: "given_up",
        DeliveryOutcome.EXPIRED: "given_up",
        DeliveryOutcome.AGAIN: "failed",
    }
    return orjson.dumps(
        {
            "delivery": taken.delivery,
            "notification": position_of(taken.delivery),
            "attempt": taken.attempts + (outcome is not DeliveryOutcome.EXPIRED),
            "at": rfc3339_ms(at_ms),
            "outcome": words.get(outcome, "delivered"),
            "status": answer.status,
            "error": answer.error,
            "seconds": round(answer.seconds, 4),
            "next_attempt": rfc3339_ms(at_ms + wait_ms) if outcome is DeliveryOutcome.AGAIN else None,
        }
    )
