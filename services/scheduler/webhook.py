"""Tells a chat program's webhook: `{"text": …}`, as Slack, Mattermost and others take it."""

from __future__ import annotations

import aiohttp
from streammesh import Reject, Retry

SECONDS = 15.0
SHOWN = 200  # characters of an answer that refuses


async def tell(url: str, text: str) -> int:
    """POST it once; answers the status. Raises Retry when it may go better later, Reject when it never will.

    The URL is a secret: it is in no message.
    """
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, json={"text": text}, allow_redirects=False) as answer,
        ):
            said = (await answer.text(errors="replace"))[:SHOWN]
            status, wait = answer.status, answer.headers.get("Retry-After", "")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Retry(f"the webhook cannot be reached: {type(error).__name__}") from None
    if status < 300:
        return status
    if status in (408, 429) or status >= 500:
        after = float(wait) if wait.isdigit() else None
        raise Retry(f"the webhook answered {status}", after=after and min(after, 3600))
    raise Reject(f"the webhook refuses: {status} {said}")
