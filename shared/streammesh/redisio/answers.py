"""What Redis answered, where something else may lie under a key than should."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import structlog

from streammesh import lua

log = structlog.get_logger(__name__)


async def only(pipeline: Any) -> Any:
    """The answer to the one command of a pipeline; an error stands in its place."""
    [answer] = await pipeline.execute(raise_on_error=False)
    return answer


def there(answer: Any, nothing: Any = MappingProxyType({})) -> Any:
    """What Redis answered; nothing where a key has the wrong type, which is said. Raises any other error."""
    if isinstance(answer, Exception):
        if not lua.is_wrong_type(answer):
            raise answer
        log.error("key.wrong_type", reason=str(answer)[:200])
        return nothing
    return answer
