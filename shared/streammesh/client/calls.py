"""What the methods of `MeshClient` are made of: one call, a list page by page, an answer as a record."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from streammesh.client.addresses import query_of

if TYPE_CHECKING:
    from streammesh.client.connection import ApiConnection

T = TypeVar("T")


class ApiCalls:
    """Calls over the connection of an open client."""

    _connection: ApiConnection | None = None

    @property
    def _open(self) -> ApiConnection:
        if self._connection is None:
            raise RuntimeError("use `async with MeshClient(...) as mesh`")
        return self._connection

    async def _call(
        self, method: str, path: str, query: list[tuple[str, str]] | None = None, **request: Any
    ) -> dict[str, Any]:
        return await self._open.call(method, path, query, **request)

    async def _pages(
        self, path: str, query: list[tuple[str, str]], member: str, form: Callable[[Any], T]
    ) -> AsyncGenerator[T, None]:
        cursor: str | None = ""
        while cursor is not None:
            page = await self._call("GET", path, [*query, *query_of(cursor=cursor or None)])
            found, cursor = self._read(lambda page: ([form(one) for one in page[member]], page["next"]), page)
            for one in found:
                yield one

    def _read(self, form: Callable[[Any], T], answer: Any) -> T:
        return self._open.read(form, answer)
