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

    def publish(self, event_type: str, data: dict[str, Any]) -> str:
        """Publish one event; its id."""
        answer = self._http.post("/v1/events", json={"type": event_type, "data": data})
        if answer.status_code != 202:
            raise AssertionError(f"POST /v1/events answered {answer.status_code}: {answer.text[:500]}")
        event_id: str = answer.json()["id"]
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

    def workers_of(self, notes: list[dict[str, Any]]) -> set[str]:
        """The names of the workers that ran the tasks which these notifications are about."""
        tasks = {note["task"]["id"] for note in notes if note.get("task")}
        answers = [self._http.get(f"/v1/tasks/{task}").raise_for_status() for task in tasks]
        return {answer.json()["worker"] for answer in answers}

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

    def upload_report(self, csv: str, **fields: str) -> str:
        """Upload a file and ask for a report about it; the report's id, which is its event's id too."""
        answer = self._http.post("/v1/reports", data=fields, files={"file": ("data.csv", csv, "text/csv")})
        if answer.status_code != 202:
            raise AssertionError(f"POST /v1/reports answered {answer.status_code}: {answer.text[:500]}")
        report_id: str = answer.json()["report_id"]
        return report_id

    def pdf(self, report_id: str) -> bytes:
        """The finished report."""
        answer = self._http.get(f"/v1/reports/{report_id}.pdf")
        if answer.status_code != 200:
            raise AssertionError(f"the PDF answered {answer.status_code}: {answer.text[:500]}")
        return answer.content
