"""A workspace in a process of its own, to be killed; its jobs begin and never end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.emulator.contract import Change, ControlPlane
from intermodal.backends.azureml.emulator.plane import running
from tests.support.azurite import TOOLS


class Endless:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def submit(self, name: str, body: Mapping[str, Any]) -> None:
        self._plane.change(name, Change(status="Running"))

    def cancel(self, name: str) -> None: ...

    def close(self) -> None: ...


if __name__ == "__main__":
    with running(Path(sys.argv[1]), Endless, tools=TOOLS):
        print("ready", flush=True)
        time.sleep(600)
