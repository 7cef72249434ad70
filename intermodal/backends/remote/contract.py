"""What following a run asks of the place where it goes on.

A place only tells and brings; what is recorded, shown and kept is the same for every place (`following.py`, `fetching.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from intermodal.engine.artifacts import Inputs, Outputs
from intermodal.engine.failure import Failure
from intermodal.engine.states import State
from intermodal.errors import EnvironmentProblem

AZUREML, KUBEFLOW = "azureml", "kubeflow"
PLACES = frozenset({AZUREML, KUBEFLOW})
"""Names of backends whose runs go on elsewhere, as the record keeps them."""


class PlaceProblem(EnvironmentProblem):
    """The place refused, or did not answer. `passing`: asking again later may help."""

    def __init__(self, message: str, *, passing: bool, status: int = 0, hint: str | None = None) -> None:
        """`status` is that of HTTP, 0 if there was no answer."""
        super().__init__(message, hint=hint)
        self.passing = passing
        self.status = status


@dataclass(frozen=True)
class Seen:
    """A task as the place shows it now. Times are seconds since the epoch."""

    path: str
    id: str
    """What the place calls its job."""
    state: State
    """PENDING, RUNNING, or how its job ended; `Remote.ended` knows how the task did."""
    started: float | None = None
    ended: float | None = None
    failure: Failure | None = None
    reused: str = ""
    """Which job's outputs were taken, if nothing ran."""
    image: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """The run as the place shows it now. `state` is RUNNING until all is over."""

    state: State
    tasks: Sequence[Seen]
    error: str = ""


@dataclass(frozen=True)
class Ended:
    """How a task ended. `here` is False if it is not the one to be recorded: a group around it was decided about instead."""

    state: State
    outputs: Outputs = field(default_factory=Outputs)
    inputs: Inputs | None = None
    failure: Failure | None = None
    reason: str = ""
    here: bool = True


@dataclass(frozen=True)
class Group:
    """How a loop or a nested pipeline ended, or a task that has no job of its own."""

    path: str
    state: State
    outputs: Outputs
    failure: Failure | None = None
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """How the whole run ended."""

    state: State
    outputs: Outputs = field(default_factory=Outputs)
    groups: Sequence[Group] = ()


class Remote(Protocol):
    """One run at its place. Every method may raise PlaceProblem; `passing` ones are waited out by whoever follows."""

    def submit(self) -> None:
        """Start it, if the place does not have it yet. Doing it again changes nothing."""

    def page(self) -> str:
        """Return the address at which people see the run, empty if there is none."""

    def look(self) -> Look:
        """Return the run as it is now."""

    def ended(self, seen: Seen) -> Ended:
        """Return how a task whose job is over ended."""

    def outcome(self, look: Look) -> Outcome:
        """Return how the run ended, once `look` says that it has."""

    def log(self, seen: Seen, start: int) -> bytes:
        """Return what a task's job has written from byte `start` on."""

    def cancel(self) -> None:
        """Ask the place to stop the run; it ends as cancelled when all of it has stopped."""

    def download(self, uri: str, folder: Path) -> Path:
        """Bring the file or folder at `uri` into `folder` and return its path there. Raises BadContent if it is damaged."""
