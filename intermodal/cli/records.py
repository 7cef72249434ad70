"""Reading the record of runs: what `runs`, `show` and `logs` share."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from intermodal.backends.remote.contract import PLACES
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.resume import is_held
from intermodal.engine.states import State
from intermodal.errors import BadInput

INTERRUPTED = "INTERRUPTED"
"""What is shown of a run, and of its unfinished tasks, whose process was killed."""


def open_database(state: Path) -> Database:
    """Open the run database of an existing state folder. Raises BadInput if there is none."""
    path = state / "intermodal.db"
    if not path.is_file():
        raise BadInput(f"{state}: holds no runs", hint="run a pipeline first, or name the folder with --state")
    return Database(path)


def find_run(database: Database, name: str | None) -> sqlite3.Row:
    """Return the run named `name` (or by a unique part of its name), the newest if None. Raises BadInput."""
    rows = database.query("SELECT * FROM runs ORDER BY started DESC")
    if not rows:
        raise BadInput("there are no runs yet")
    if name is None:
        return rows[0]
    matches = [row for row in rows if row["id"] == name] or [row for row in rows if name in row["id"]]
    if not matches:
        raise BadInput(f"no run {name!r}", hint="`intermodal runs` lists them")
    if len(matches) > 1:
        raise BadInput(f"{name!r} names {len(matches)} runs", hint=", ".join(row["id"] for row in matches[:4]))
    return matches[0]


def shown_state(state: Path, run: sqlite3.Row) -> str:
    """Return the state of a run as it is now: one that the record calls running, and that no process runs, was interrupted.

    One that goes on elsewhere needs no process here: its state is the last that was seen.
    """
    if run["backend"] in PLACES:
        return str(run["state"])
    going_on = run["state"] == State.RUNNING and is_held(StateFolder(state.absolute()).run(run["id"]))
    return INTERRUPTED if run["state"] == State.RUNNING and not going_on else str(run["state"])


def local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
