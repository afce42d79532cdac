"""What became of an event in a test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streammesh.events.envelope import Event
from streammesh.names import TaskState
from streammesh.tasks.records import TaskRow


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """An event whose tasks have all ended. `published` are the events that left together with their results."""

    event: Event
    tasks: tuple[TaskRow, ...]
    published: tuple[Event, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something ran, and all of it succeeded."""
        return bool(self.tasks) and all(task.state is TaskState.SUCCEEDED for task in self.tasks)

    @property
    def task(self) -> TaskRow:
        """The only task. Raises LookupError where there are none or several."""
        if len(self.tasks) != 1:
            names = ", ".join(task.name for task in self.tasks) or "nothing"
            raise LookupError(f"{self.event.type} was for {names}, not for one handler")
        return self.tasks[0]

    @property
    def result(self) -> Any:
        """What the only handler returned. Raises AssertionError, with its reason, where it did not succeed."""
        task = self.task
        if task.state is not TaskState.SUCCEEDED:
            told = task.error or {}
            raise AssertionError(
                f"{task.name} {task.state}: {told.get('kind', '')}: {told.get('reason', '')}\n{told.get('traceback', '')}"
            )
        return task.result

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the only handler did not succeed: `kind`, `reason`, `traceback`; None where it did."""
        return self.task.error

    @property
    def results(self) -> dict[str, Any]:
        """Handler (`service.name`) -> what it returned, of those that succeeded."""
        return {task.name: task.result for task in self.tasks if task.state is TaskState.SUCCEEDED}
