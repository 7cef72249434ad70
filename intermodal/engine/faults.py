"""The commit points of a run, by name, and a hook that kills the runner at one of them.

What happens between two commit points is either wholly on disk or not at all; the tests kill -9 the runner at each of them and
expect `resume` to end with the same outputs. INTERMODAL_FAULT=`<point>` or `<point>:<n>` kills at the n-th time (from 1).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping

from intermodal.errors import BadInput

POINTS = (
    "run:recorded",
    "run:reopened",
    "attempt:prepared",
    "attempt:recorded",
    "attempt:started",
    "attempt:handle",
    "attempt:ended",
    "store:staged",
    "store:installed",
    "attempt:harvested",
    "attempt:committed",
    "attempt:failed",
    "attempt:removed",
    "task:finished",
    "run:outputs",
    "run:ended",
)


class Faults:
    """Kills this process with SIGKILL when the chosen point is reached; does nothing if none is chosen."""

    def __init__(self, chosen: str = "") -> None:
        """Raises BadInput for a point that does not exist."""
        parts = chosen.split(":")
        times = int(parts.pop()) if len(parts) == 3 and parts[-1].isdigit() else 1
        self._point = ":".join(parts)
        self._left = times
        self._lock = threading.Lock()
        if self._point and self._point not in POINTS:
            raise BadInput(f"INTERMODAL_FAULT={chosen}: no such point", hint=", ".join(POINTS))

    @staticmethod
    def of(environment: Mapping[str, str]) -> Faults:
        return Faults(environment.get("INTERMODAL_FAULT", ""))

    def reach(self, point: str) -> None:
        if point != self._point:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
