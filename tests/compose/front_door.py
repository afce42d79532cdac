"""A client that knows nothing but the API's address and a key."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import httpx


class FrontDoor:
    """Publishes over HTTP and follows over SSE."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=httpx.Timeout(10, read=30)
        )

    def __enter__(self) -> FrontDoor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._http.close()

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.post(path, json=body)
        if answer.status_code != 202:
            raise AssertionError(f"POST {path} answered {answer.status_code}: {answer.text[:500]}")
        accepted: dict[str, Any] = answer.json()
        return accepted

    def publish(self, event_type: str, data: dict[str, Any]) -> str:
        """Publish one event; its id."""
        event_id: str = self._post("/v1/events", {"type": event_type, "data": data})["id"]
        return event_id

    def follow(self, event_id: str, timeout: float = 30) -> list[dict[str, Any]]:
        """Everything that the client is told about one event, until the server ends the stream."""
        notes: list[dict[str, Any]] = []
        path = f"/v1/events/{event_id}/notifications"
        with self._http.stream("GET", path, timeout=httpx.Timeout(10, read=timeout)) as stream:
            if stream.status_code != 200:
                raise AssertionError(f"GET {path} answered {stream.status_code}")
            lines = (line for line in stream.iter_lines() if line.startswith("data:"))
            notes.extend(json.loads(line.removeprefix("data:")) for line in lines)
        return notes

    def workers_of(self, event_id: str) -> list[str]:
        """The names of the workers that ran the tasks of one event."""
        answer = self._http.get(f"/v1/events/{event_id}")
        answer.raise_for_status()
        return [line for line in json.dumps(answer.json()).split('"') if "@" in line and ":" in line]

    def known(self, event_id: str) -> bool:
        """Whether the API knows the event; False while it answers nothing sensible."""
        try:
            return self._http.get(f"/v1/events/{event_id}").status_code == 200
        except httpx.HTTPError:
            return False

    def ready(self) -> bool:
        """Whether the API says that it is ready."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def request_report(self) -> dict[str, Any]:
        """Ask for a report about the mesh itself; the answer."""
        return self._post("/v1/reports", {})

    def pdf(self, report_id: str) -> bytes:
        """The finished report."""
        answer = self._http.get(f"/v1/reports/{report_id}.pdf")
        if answer.status_code != 200:
            raise AssertionError(f"the PDF answered {answer.status_code}: {answer.text[:500]}")
        return answer.content
