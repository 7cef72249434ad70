"""The classes of failure: why a step is not green. Every failed task has exactly one."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from intermodal.errors import EnvironmentProblem, IntermodalError, one_line
from intermodal.words import Word


class FailureClass(Word):
    """Why an attempt failed. Exit code 0 alone never makes a step green."""

    USER_CODE = "user_code"
    """The process exited non-zero by its own will."""
    OOM = "oom"
    """The process or a child of it was killed for memory, whatever the exit code (docker reports it beside the code)."""
    KILLED = "killed"
    """A signal from outside ended it, and it was not for memory."""
    TIMEOUT = "timeout"
    OUTPUT_MISSING = "output_missing"
    OUTPUT_INVALID = "output_invalid"
    IMAGE = "image"
    """The image is missing, is for another architecture, or its entry point cannot be executed."""
    ENGINE_LOST = "engine_lost"
    """The container engine stopped answering or lost the container."""
    DISK_FULL = "disk_full"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Failure:
    """One failure: its class, one line for people (made fit for a terminal), and the process's exit code if there was one."""

    kind: FailureClass
    message: str
    exit_code: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", one_line(self.message))


def no_space(error: OSError) -> bool:
    """Whether the disk (or the quota on it) is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


class AttemptFailed(Exception):
    """Carries a `Failure` from where an attempt went wrong to the scheduler, which makes a task state of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refusal(error: BaseException) -> Failure:
    """Return why a task could not even be prepared: what it names is missing or wrong, or there is no room for it."""
    if isinstance(error, AttemptFailed):
        return error.failure
    if isinstance(error, EnvironmentProblem):
        return Failure(FailureClass.IMAGE, error.message)
    if isinstance(error, IntermodalError):
        return Failure(FailureClass.USER_CODE, error.message)
    if isinstance(error, OSError):
        return Failure(FailureClass.DISK_FULL if no_space(error) else FailureClass.ENGINE_LOST, str(error))
    return Failure(FailureClass.ENGINE_LOST, f"internal error: {error!r}")
