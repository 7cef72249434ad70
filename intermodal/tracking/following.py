"""What a runner does about tracking: it sets a follower going, and at the end gives it a moment. It never waits for a server."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from intermodal.engine.layout import StateFolder
from intermodal.errors import IntermodalError
from intermodal.settings import Settings
from intermodal.tracking.door import LOG, OpenRuns
from intermodal.tracking.outbox import find_sent
from intermodal.tracking.target import FOLDER, URI, target, wanted

_FOLLOWER = "intermodal.tracking.follower"
_PARTING = 2.0
"""Seconds at most that the end of a run waits for its last words to be sent, and only if the server has answered before."""


class Following:
    """Follows one run, if runs are tracked. `notes` is what the user should hear at the start."""

    def __init__(self, settings: Settings, state: StateFolder, run: str, environment: Mapping[str, str]) -> None:
        self.notes: list[str] = []
        self._folder = state.run(run)
        self._state = state
        self._run = run
        self._child: subprocess.Popen[bytes] | None = None
        try:
            if not wanted(settings, environment):
                return
            where = target(settings, environment, state.root)
        except IntermodalError as error:
            self._refuse(error.message)
            return
        if not where.uri and not _can_serve():
            self._refuse(f"that needs pip install 'intermodal[tracking]', or the address of a server in {URI}")
            return
        self._start({**environment, URI: where.uri})

    def _start(self, environment: Mapping[str, str]) -> None:
        (self._folder / LOG).unlink(missing_ok=True)  # of an earlier runner
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [package, environment.get("PYTHONPATH")]))
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", _FOLLOWER, str(self._state.root), self._run],
                env={**environment, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in the terminal is for the runner
            )
        except OSError as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        """Say why nothing is sent, to the user and to whoever would wait for it (`door.OpenRuns`)."""
        self.notes = [f"not tracked: {why}"]
        (self._folder / LOG).write_text(why + "\n", encoding="utf-8")

    def end(self) -> str | None:
        """Say that the run is over, give the follower a moment, and return where the run can be seen.

        Empty if the server has nothing of it yet, None if it is not tracked.
        """
        child, self._child = self._child, None
        if child is None or child.stdin is None or child.stdout is None:
            return None
        child.stdin.close()
        with child.stdout, contextlib.suppress(subprocess.TimeoutExpired):
            if select.select([child.stdout], [], [], 0)[0]:
                child.wait(_PARTING)
        if child.returncode is None:  # it goes on by itself; a process that lives on is to leave no zombie of it
            threading.Thread(target=child.wait, daemon=True).start()
        return tracked_at(self._state, self._run)


def _can_serve() -> bool:
    from intermodal.tracking.server import is_installed

    return is_installed()


def tracker_of(settings: Settings, state: Path, environment: Mapping[str, str]) -> OpenRuns | None:
    """Return who tells the engine of the runs that a follower opens; None if runs are not tracked. Raises BadInput."""
    return OpenRuns(StateFolder(state.absolute())) if wanted(settings, environment) else None


def tracked_at(state: StateFolder, run: str) -> str:
    """Return where a run can be seen, empty if it was not sent anywhere."""
    found = find_sent(state.root / FOLDER, run)
    if found is None:
        return ""
    uri, sent = found
    return f"{uri}/#/experiments/{sent.experiment}/runs/{sent.mlflow_run}"
