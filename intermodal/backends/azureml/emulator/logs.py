"""Logs of runs, brought to the artifact store while they grow, where clients read them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from azure.core.exceptions import AzureError

from intermodal.backends.azureml.emulator.blobs import ARTIFACT_CONTAINER, Blobs, Place
from intermodal.backends.azureml.emulator.jobs import artifact_folder

STANDARD = "user_logs/std_log.txt"
PIPELINE = "logs/azureml/executionlogs.txt"
_EVERY = 0.5
_BLOCK = 4 * 1024 * 1024
"""The most that one append may bring."""


@dataclass
class _Following:
    path: Path
    place: Place
    sent: int = 0
    begun: bool = False


class Logs:
    """Follows files and brings what they grow by, twice a second."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._lock = threading.Lock()
        self._following: dict[tuple[str, str], _Following] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="emulator-logs")
        self._thread.start()

    def follow(self, run: str, path: Path, name: str = STANDARD) -> None:
        """Bring a file to a run's logs from now on. A second file of the same run and name is not taken."""
        place = Place(ARTIFACT_CONTAINER, f"{artifact_folder(run)}/{name}")
        with self._lock:
            self._following.setdefault((run, name), _Following(path, place))

    def finish(self, run: str) -> None:
        """Bring the rest of a run's logs, and follow them no longer."""
        with self._lock:
            for key in [key for key in self._following if key[0] == run]:
                self._send(self._following.pop(key))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            for following in self._following.values():
                self._send(following)
            self._following.clear()

    def _work(self) -> None:
        while not self._stop.wait(_EVERY):
            with self._lock:
                for following in self._following.values():
                    self._send(following)

    def _send(self, following: _Following) -> None:
        try:
            with following.path.open("rb") as file:
                file.seek(following.sent)
                while (data := file.read(_BLOCK)) or not following.begun:
                    self._blobs.append(following.place, data, first=not following.begun)
                    following.begun = True
                    following.sent += len(data)
                    if not data:
                        break
        except (OSError, AzureError):
            return  # not there yet, or the storage is busy: the next time brings it
