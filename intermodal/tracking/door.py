"""The runner's side of network `tracking`: a socket in the run's folder that leads to the server, and who tells the engine of runs."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

from intermodal.backends.relay import PORT, SOCKET, relay
from intermodal.engine.layout import StateFolder
from intermodal.engine.tracked import NotTracked, OpenRun
from intermodal.tracking import schema
from intermodal.tracking.outbox import find_sent
from intermodal.tracking.target import FOLDER

_FOLDER = "tracking"
"""Of a run: what is in it the container beside a step sees."""
_TIMEOUT = 30.0
LOG = "tracking.log"
"""Of a run: what was in the way of sending it."""


def door_of(state: StateFolder, run: str) -> Path:
    return state.run(run) / _FOLDER


def open_door(state: StateFolder, run: str, uri: str) -> bool:
    """Pass connections to the run's socket on to the server, as long as this process lives. False if that cannot be.

    Only to plain http: what a step speaks is passed on as it is.
    """
    parts = urlsplit(uri)
    if parts.scheme != "http" or not parts.hostname:
        return False
    folder = door_of(state, run)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    listener = socket.socket(socket.AF_UNIX)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=descriptor)
        listener.bind(
            f"/proc/self/fd/{descriptor}/{SOCKET}"
        )  # the folder's own path may be longer than a socket's can be
        (folder / SOCKET).chmod(0o666)  # the step's user is another
    finally:
        os.close(descriptor)
    listener.listen(64)
    address = (parts.hostname, parts.port or 80)
    threading.Thread(
        target=relay, args=(listener, lambda: socket.create_connection(address, _TIMEOUT)), daemon=True
    ).start()
    return True


class OpenRuns:
    """Tells the engine of the MLflow runs that the follower opens. Implements `intermodal.engine.tracked.Tracker`."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state

    def find(self, run: str, task: str, attempt: int, *, inside: bool) -> OpenRun | None:
        """Return the attempt's run, None if it is not open yet. Raises NotTracked if it will not be."""
        found = find_sent(self._state.root / FOLDER, schema.run_key(run, task, attempt=attempt))
        door = door_of(self._state, run)
        if found is not None and (not inside or (door / SOCKET).exists()):
            uri, sent = found
            variables = {
                "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{PORT}" if inside else uri,
                "MLFLOW_EXPERIMENT_ID": sent.experiment,
                "MLFLOW_RUN_ID": sent.mlflow_run,
            }
            return OpenRun(variables, door)
        if found is not None and not found[0].startswith("http:"):
            raise NotTracked(f"{found[0]}: network `tracking` leads to servers of plain http alone")
        log = self._state.run(run) / LOG
        if log.is_file():
            raise NotTracked((log.read_text(encoding="utf-8").strip().splitlines() or ["no tracking server"])[-1])
        return None
