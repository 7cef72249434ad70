"""Logs of runs, brought to the artifact store while they grow, where clients read them."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
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
_SLOWEST = 10.0
_SLOWING = 200
"""An append blob has at most 50,000 blocks: after so many they come a second further apart, until they are `_SLOWEST` apart."""


@dataclass
class _Following:
    path: Path
    place: Place
    sent: int = 0
    """Bytes."""
    blocks: int = 0
    due: float = 0.0
    """When the next block may go, on the clock that never turns back."""


class Logs:
    """Follows files and brings what they grow by, twice a second at first."""

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
        """Bring the rest of a run's logs, and follow them no longer. What cannot be brought is said on stderr."""
        with self._lock:
            for key in [key for key in self._following if key[0] == run]:
                self._last(self._following.pop(key))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            for following in self._following.values():
                self._last(following)
            self._following.clear()

    def _last(self, following: _Following) -> None:
        try:
            self._send(following)
        except FileNotFoundError:
            return  # it never printed anything
        except (OSError, AzureError) as error:
            print(f"{following.place.path}: the end of the log is lost: {error}", file=sys.stderr, flush=True)

    def _work(self) -> None:
        while not self._stop.wait(_EVERY):
            with self._lock:
                for following in self._following.values():
                    if time.monotonic() >= following.due:
                        with contextlib.suppress(
                            OSError, AzureError
                        ):  # not there yet, or busy: the next time brings it
                            self._send(following)

    def _send(self, following: _Following) -> None:
        with following.path.open("rb") as file:
            file.seek(following.sent)
            while (data := file.read(_BLOCK)) or not following.blocks:
                self._blobs.append(following.place, data, first=not following.blocks)
                following.blocks += 1
                following.sent += len(data)
                following.due = time.monotonic() + min(_SLOWEST, _EVERY + following.blocks / _SLOWING)
                if not data:
                    break
