"""States of tasks and runs."""

from __future__ import annotations

from intermodal.words import Word


class State(Word):
    """A task's state. The last five are final."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    CACHED = "CACHED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self not in (State.PENDING, State.RUNNING)

    @property
    def green(self) -> bool:
        return self in (State.SUCCEEDED, State.CACHED)
