"""A leaf on its way: what is decided about a container task before it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from intermodal.engine.artifacts import Outputs
from intermodal.engine.attempt import Plan
from intermodal.engine.failure import Failure
from intermodal.engine.fingerprint import Identity
from intermodal.engine.graph import Work
from intermodal.engine.resources import Demand
from intermodal.spec.document import canonical_json


@dataclass
class Job:
    """From ready to its last attempt. `plan.number` is the number of the attempt that runs or ran last, 0 before the first."""

    work: Work
    demand: Demand
    plan: Plan
    identity: Identity
    attempts_before: int = 0
    """Attempts that earlier runners of this run made; they do not count against the task's retries."""
    live: LiveAttempt | None = None
    """An attempt that a killed runner left: adopted instead of started."""
    obstacle: str = ""
    """Why what the live attempt does cannot be taken for this job's: it is then ended, and the work done anew."""
    unattended: bool = False
    """Whether the live attempt had failed before it was adopted: as a failure on record, it counts for an earlier runner."""
    handle: str | None = None
    """The backend's handle of the attempt that runs or ran last."""
    reason: str = ""
    """Why it runs, or why it need not: what the cache said."""
    started: float = field(default_factory=time.time)
    """When the first attempt began, in seconds since the epoch."""
    first_attempt: float = field(default_factory=time.monotonic)
    """The same moment on the monotonic clock."""

    @property
    def path(self) -> str:
        return self.work.path

    @property
    def attempts(self) -> int:
        return self.plan.number - self.attempts_before

    def next_attempt(self) -> None:
        self.plan = replace(self.plan, number=self.plan.number + 1)
        self.live, self.handle, self.obstacle, self.unattended = None, None, "", False

    def begin(self, started: float) -> None:
        self.started, self.first_attempt = started, time.monotonic()

    def restart_after(self, attempts: int) -> None:
        """Number attempts on after those that earlier runners made."""
        self.plan, self.attempts_before = replace(self.plan, number=attempts), attempts

    def adopt(self, live: LiveAttempt, obstacle: str) -> None:
        """Make the attempt that a killed runner left the current one."""
        self.plan = replace(self.plan, number=live.number)
        self.live, self.attempts_before, self.obstacle = live, live.number - 1, obstacle


@dataclass(frozen=True)
class LiveAttempt:
    """An attempt in the record that has no end: its runner was killed. `started` is in seconds since the epoch."""

    number: int
    started: float
    turn: int
    fingerprint: str
    boot: str
    known: bool
    """Whether the record holds its handle: it had been started for sure."""


@dataclass(frozen=True)
class Ended:
    """What came of one attempt: outputs if it succeeded, else the failure. `recorded`: the record holds it."""

    job: Job
    outputs: Outputs | None
    failure: Failure | None
    recorded: bool = True


def inputs_json(work: Work) -> str:
    document: dict[str, Any] = {
        "parameters": dict(work.inputs.parameters),
        "artifacts": {name: [item.as_json() for item in items] for name, items in work.inputs.artifacts.items()},
    }
    return canonical_json(document)
