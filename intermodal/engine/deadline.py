"""A time limit on one attempt."""

from __future__ import annotations

import threading
from collections.abc import Callable

from intermodal.engine.failure import Failure, FailureClass


class Deadline:
    """Calls `stop` once `seconds` have passed (never if None), unless cancelled before."""

    def __init__(self, seconds: float | None, stop: Callable[[], None]) -> None:
        self._seconds = seconds
        self._stop = stop
        self._expired = False
        self._timer = threading.Timer(seconds, self._expire) if seconds is not None else None
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()

    def _expire(self) -> None:
        self._expired = True
        self._stop()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def failure(self, seen: Failure | None) -> Failure | None:
        """Return the attempt's failure: a timeout if it was stopped for its time, whatever it looked like."""
        if not self._expired or seen is None:
            return seen
        return Failure(FailureClass.TIMEOUT, f"took longer than {self._seconds:g} s and was stopped", seen.exit_code)
