"""The process that follows one run and sends it, beside the run: `python -m intermodal.tracking.follower STATE RUN`.

It shares nothing with the runner but the record on the disk, so that nothing it meets (no server, a server that never answers, no room)
can slow or fail the run; it is there still when the runner is killed, and says so to the server. It reads the address of the server from
MLFLOW_TRACKING_URI (empty: the local one, started if need be), where a secret in it is seen by nobody else. Its standard input is
a pipe from the runner, whose end wakes it; on its standard output it says when the server has answered.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import sys
import time
from pathlib import Path

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.resume import is_held
from intermodal.errors import IntermodalError
from intermodal.tracking.door import LOG, open_door
from intermodal.tracking.outbox import Outbox
from intermodal.tracking.rest import Client, Rejected, Unreachable
from intermodal.tracking.sender import Sender, sending
from intermodal.tracking.sync import send_once
from intermodal.tracking.target import FOLDER, URI, Target, without_secrets

_INTERVAL = 1.0
_TIMEOUT = 10.0
_LAST_TRIES = 6
"""How often an absent server is tried when the run is over: within a minute or so. `intermodal tracking sync` comes later."""
_LONGEST_PAUSE = 15
"""Intervals."""


class Follower:
    """Follows one run to its end. What is in the way of that is in the run's `tracking.log`."""

    def __init__(self, state: StateFolder, run: str, uri: str, *, interval: float = _INTERVAL) -> None:
        """`interval`: seconds between two looks at the record."""
        self._state = state
        self._interval = interval
        self._run = run
        self._target = Target(state.root / FOLDER, uri)
        self._said = ""
        self._log_path = state.run(run) / LOG

    def follow(self) -> None:
        with sending(self._state.run(self._run), math.inf):
            try:
                uri = self._target.open()
                open_door(self._state, self._run, uri)
                self._send(Client(uri, os.environ, _TIMEOUT), without_secrets(uri))
            except Exception as error:  # noqa: BLE001 - nobody sees its stderr: whatever ends it is said here
                self._say(_told(error))

    def _send(self, client: Client, uri: str) -> None:
        database = Database(self._state.database)
        failures = 0
        with Outbox(self._state.root / FOLDER, uri) as outbox:
            sender = Sender(client, outbox, self._run)
            while True:
                over = False
                try:
                    over = send_once(database, self._state, self._run, sender, outbox)
                    failures = 0
                    self._tell()
                    if over:
                        break
                except Rejected:
                    raise
                except Exception as error:  # noqa: BLE001 - no answer, no room, or what nobody foresaw: later may do
                    failures += 1
                    self._say(_told(error))
                    if failures >= _LAST_TRIES and self._is_over(database):
                        return
                self._pause(pause(self._interval, failures))
        for line in sender.refused:
            self._say(f"refused: {line}")

    def _is_over(self, database: Database) -> bool:
        """Whether nothing more is to come: the run ended, or its runner was killed before it could say so."""
        if not is_held(self._state.run(self._run)):
            return True
        return database.query("SELECT ended FROM runs WHERE id=?", (self._run,))[0]["ended"] is not None

    def _pause(self, seconds: float) -> None:
        """Wait so long, or until the runner says that it is done, or is gone."""
        if sys.stdin.closed:
            time.sleep(seconds)
        elif select.select([sys.stdin], [], [], seconds)[0]:
            sys.stdin.close()

    def _tell(self) -> None:
        if not sys.stdout.closed:
            with contextlib.suppress(OSError):
                os.write(sys.stdout.fileno(), b"+")
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123

    def _say(self, line: str) -> None:
        """Write a line to the log, once in a row."""
        if line != self._said:
            self._said = line
            with contextlib.suppress(OSError), self._log_path.open("a", encoding="utf-8") as stream:
                stream.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")


def pause(interval: float, failures: int) -> float:
    """Return how many seconds to wait after so many failures in a row, of which there may be any number."""
    return interval * min(_LONGEST_PAUSE, 1 << min(failures, 10))


def _told(error: Exception) -> str:
    """Return the error's own words; with its kind, if it was not foreseen."""
    return (
        str(error)
        if isinstance(error, (IntermodalError, Unreachable, Rejected))
        else f"{type(error).__name__}: {error}"
    )


def main() -> None:
    state, run = sys.argv[1:]
    os.nice(10)  # the steps go first
    Follower(StateFolder(Path(state)), run, os.environ.get(URI, "")).follow()


if __name__ == "__main__":
    main()
