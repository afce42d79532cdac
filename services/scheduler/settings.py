"""The scheduler's own settings: environment variables `SCHEDULER_*` and `.env`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from streammesh.settings import Duration

SHIPPED = Path(__file__).with_name("schedules.toml")


class SchedulerSettings(BaseSettings):
    """What the scheduler needs beside the mesh's settings. One instance per process."""

    model_config = SettingsConfigDict(
        env_prefix="SCHEDULER_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    schedules_file: Path | None = Field(
        None, description="TOML file of schedules, followed while it is edited; empty for the one that ships."
    )
    dead_letters_kept: Duration = Field(
        timedelta(days=30), description="Dead letters that nobody replayed are dropped after this."
    )

    @field_validator("schedules_file", mode="before")
    @classmethod
    def _empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("dead_letters_kept")
    @classmethod
    def _positive(cls, value: timedelta) -> timedelta:
        if value < timedelta(minutes=1):
            raise ValueError("should be at least 1m")
        return value

    @property
    def schedules(self) -> Path:
        """The file that is followed."""
        return self.schedules_file or SHIPPED
