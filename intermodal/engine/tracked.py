"""What the engine asks of tracking before it starts a step whose network is `tracking`: which MLflow run is that step's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from intermodal.engine.backend import Launch

_PATIENCE = 90.0
"""Seconds that such a step waits for its run: a server on this machine may have to be started first."""
_LOOK = 0.2


@dataclass(frozen=True)
class OpenRun:
    """An attempt's MLflow run. `door` is the folder of the socket behind which its server is."""

    variables: Mapping[str, str]
    door: Path


class NotTracked(Exception):
    """The run is not tracked, or its server cannot be reached: there is nothing to wait for."""


class Tracker(Protocol):
    """Tells of MLflow runs that somebody else opens. Never slow."""

    def find(self, run: str, task: str, attempt: int, *, inside: bool) -> OpenRun | None:
        """Return the attempt's run, None if it is not open yet. `inside`: as a step in a container sees it. Raises NotTracked."""


def tracked(
    launch: Launch, tracker: Tracker | None, *, isolated: bool, stopping: Callable[[], bool], say: Callable[[str], None]
) -> Launch:
    """Return the launch with its MLflow run; without a network if there is none. One of another network is returned as it is."""
    if launch.network != "tracking":
        return launch
    deadline = time.monotonic() + _PATIENCE
    why = "runs are not tracked"
    try:
        while tracker is not None and not stopping():
            found = tracker.find(launch.run_id, launch.task, launch.attempt, inside=isolated)
            if found is not None:
                return replace(launch, env={**found.variables, **launch.env}, door=found.door)
            if time.monotonic() > deadline:
                raise NotTracked("the tracking server did not answer in time")
            time.sleep(_LOOK)
    except NotTracked as error:
        why = str(error)
    say(f"{why}: the step runs without MLflow, and without a network")
    return replace(launch, network="none")
