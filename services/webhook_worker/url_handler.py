"""What a worker that is only a URL does with an event: one signed request, whose answer settles the task."""

from __future__ import annotations

import time
from typing import Any

import orjson
from streammesh import Context, Event, Fail, Reject, Retry
from streammesh.webhooks.seal import Seal
from streammesh.webhooks.signature import signed_headers
from streammesh.webhooks.url_workers import SIGNAL, UrlWorker, result_token

from services.webhook_worker.sender import WebhookSender
from services.webhook_worker.verdict import ReceiverAnswer, asked_ms, utc_now

CONTENT_TYPE = "application/cloudevents+json"
ACCEPTED = 202
SHOWN = 500  # characters of an answer that refuses


class Answered(Exception):
    """The answer was the result: nothing is to be waited for."""

    def __init__(self, result: Any) -> None:
        self.result = result
        super().__init__("it answered with the result")


class NotAnswered(Retry):
    """The URL did not answer, or not with a result: the attempt failed, and is made again by the retry policy."""


class UrlHandler:
    """The handler of all subscriptions of one such service."""

    def __init__(self, worker: UrlWorker, sender: WebhookSender, seal: Seal) -> None:
        self._worker, self._sender, self._seal = worker, sender, seal

    async def __call__(self, event: Event, ctx: Context) -> Any:
        """Handle one event: its result, now or as it is said later. Raises Reject, Retry, Fail, NotAnswered."""

        async def accepted() -> bool:
            self._read(await self._post(event, ctx))
            return True

        try:
            await ctx.step("accepted", accepted)
        except Answered as answered:
            return answered.result
        said = await ctx.wait_for_signal(SIGNAL, timeout=self._worker.result_within)
        if said is None:
            raise Fail(f"it was accepted, and no result came within {self._worker.result_within:g} s")
        if not isinstance(said, dict) or ("result" not in said and "reject" not in said):
            raise Fail("what was said of its result is none")
        if "reject" in said:
            raise Reject(str(said["reject"])[:SHOWN])
        return said["result"]

    async def _post(self, event: Event, ctx: Context) -> ReceiverAnswer:
        body, now_ms = event.to_json(), time.time_ns() // 1_000_000
        keys = self._seal.keys(self._worker.secrets, self._worker.service, now_ms)
        if not keys:  # nothing goes unsigned
            raise NotAnswered("its secret is sealed with a key that WEBHOOK_SECRET_KEYS does not hold")
        headers = signed_headers(keys, ctx.task_id, now_ms // 1000, body)
        headers |= {
            "content-type": CONTENT_TYPE,
            "streammesh-task": ctx.task_id,
            "streammesh-attempt": str(ctx.attempt),
            "streammesh-result-token": result_token(keys[0], ctx.task_id),
        }
        return await self._sender.post(self._worker.url, body, headers)

    def _read(self, answer: ReceiverAnswer) -> None:
        """Return for what was accepted. Raises Answered with a result, and what any other answer means."""
        if answer.status == ACCEPTED:
            return
        if answer.arrived:
            raise Answered(self._result(answer.body))
        if answer.status == 422:
            raise Reject(answer.body[:SHOWN].decode("utf-8", "replace") or "it answered 422")
        wait = asked_ms(answer, utc_now())
        if wait is not None:
            raise Retry(answer.error or "it asks to wait", after=wait / 1000)
        raise NotAnswered(answer.error or f"it answered {answer.status}")

    def _result(self, body: bytes) -> Any:
        if len(body) > self._sender.most_answered:
            raise Fail(f"its result has more than {self._sender.most_answered:,} bytes; put it into a store")
        if not body.strip():
            return None
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            raise Reject("its answer is no JSON") from None
