"""What a step tells about its training, as JSON lines in a file that its orchestrator keeps and sends to MLflow. Standard library only.

The engine names the file in INTERMODAL_TRACKING_FILE; without it nothing is written. A step needs no network for this, and nothing is
lost while the tracking server is down. A line is one JSON object, with any of:

    {"params": {"lr": 0.001}}
    {"time": 1700000000000, "step": 3, "metrics": {"loss": 0.5}}       time in milliseconds since the epoch
    {"tags": {"backbone": "tiny"}}
    {"trial": 3, ...}                                                   the same of a trial, which is a run of its own
    {"trial": 3, "study": "s-1a2b", "state": "COMPLETE", "time": ...}   its state in Optuna's words, at its beginning and end
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

VARIABLE = "INTERMODAL_TRACKING_FILE"
MAX_LINE = 256 * 1024
"""Bytes of a line at most: a longer one is left out by whoever reads, and refused here."""


class TrackingFile:
    """Appends lines to one file. Several processes may do so at once: a line is one write. What fails is said once, on stdout."""

    def __init__(self, path: str) -> None:
        """`path` is empty if nobody wants to hear: then nothing is written."""
        self._path = path

    def params(self, values: Mapping[str, Any], *, trial: int | None = None) -> None:
        """Tell what was worked with. A parameter keeps its first value, as in MLflow."""
        self._append({"params": dict(values)}, trial)

    def metrics(self, values: Mapping[str, float], *, step: int = 0, trial: int | None = None) -> None:
        """Tell scores; one name with several steps is a curve."""
        self._append(
            {"time": _now(), "step": step, "metrics": {name: float(value) for name, value in values.items()}}, trial
        )

    def tags(self, values: Mapping[str, str], *, trial: int | None = None) -> None:
        self._append({"tags": dict(values)}, trial)

    def trial(self, number: int, state: str, *, study: str = "", **more: Any) -> None:
        """Tell the state of a trial in Optuna's words (RUNNING, COMPLETE, PRUNED, FAIL); `more`: `params`, `metrics`, `tags`, `step`."""
        self._append({"time": _now(), "state": state, **({"study": study} if study else {}), **more}, number)

    def _append(self, line: dict[str, Any], trial: int | None) -> None:
        if not self._path:
            return
        if trial is not None:
            line["trial"] = trial
        try:
            data = json.dumps(line, default=str).encode() + b"\n"
            if len(data) > MAX_LINE:
                raise ValueError(f"a line of {len(data)} bytes, of which at most {MAX_LINE} are read")
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(file, data)
            finally:
                os.close(file)
        except (OSError, ValueError) as error:
            print(f"not tracked: {error}", flush=True)
            if isinstance(error, OSError):
                self._path = ""  # a full disk: say it once, and work on


def open_tracking_file(environment: Mapping[str, str] = os.environ) -> TrackingFile:
    """Return the file of this process's attempt; one that writes nothing if the environment names none."""
    return TrackingFile(environment.get(VARIABLE, ""))


def _now() -> int:
    return int(time.time() * 1000)
