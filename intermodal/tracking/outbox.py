"""What was sent to which server: one SQLite file in the state folder. Nothing is lost with it: then everything is sent once more.

Each row is a MLflow run by its key (`schema.KEY`). `position` is how much of what the attempt told the server has; `identity` is
that of the rest (`tree.Node.identity`); a trial's `status` is the last that was sent.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sent (
  uri TEXT NOT NULL, key TEXT NOT NULL, run TEXT NOT NULL, mlflow_run TEXT NOT NULL, experiment TEXT NOT NULL,
  identity TEXT NOT NULL DEFAULT '', position INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (uri, key)
) STRICT;
CREATE INDEX IF NOT EXISTS by_run ON sent (uri, run);
CREATE TABLE IF NOT EXISTS complete (uri TEXT NOT NULL, run TEXT NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (uri, run)) STRICT;
"""
_PATIENCE = 30.0


@dataclass(frozen=True)
class Sent:
    """What the server has of one MLflow run."""

    mlflow_run: str
    experiment: str
    identity: str = ""
    position: int = 0
    status: str = ""


class Outbox:
    """The file, made if absent; used by any number of processes, of which one at a time sends a run."""

    def __init__(self, folder: Path, uri: str) -> None:
        """`folder` is the state folder's `tracking`. Raises sqlite3.Error or OSError where the disk does."""
        folder.mkdir(parents=True, exist_ok=True)
        self._uri = uri
        self._connection = sqlite3.connect(folder / "outbox.db", timeout=_PATIENCE, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    def __enter__(self) -> Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def of_run(self, run: str) -> dict[str, Sent]:
        """Return what was sent of a run, by key."""
        rows = self._connection.execute("SELECT * FROM sent WHERE uri=? AND run=?", (self._uri, run))
        return {row["key"]: _sent(row) for row in rows}

    def put(self, run: str, key: str, sent: Sent) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO sent (uri, key, run, mlflow_run, experiment, identity, position, status)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (self._uri, key, run, sent.mlflow_run, sent.experiment, sent.identity, sent.position, sent.status),
        )

    def forget(self, run: str) -> None:
        """The server has nothing of the run (it is another one, or was emptied)."""
        for table in ("sent", "complete"):
            self._connection.execute(f"DELETE FROM {table} WHERE uri=? AND run=?", (self._uri, run))

    def complete(self) -> Mapping[str, str]:
        """Return, by run, the mark (`mark`) up to which all of it was sent."""
        rows = self._connection.execute("SELECT run, mark FROM complete WHERE uri=?", (self._uri,))
        return {row["run"]: row["mark"] for row in rows}

    def set_complete(self, run: str, mark: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO complete VALUES (?,?,?)", (self._uri, run, mark))


def mark(row: sqlite3.Row) -> str:
    """Return what changes when a run of the record that was over goes on, or ends again."""
    return f"{row['turn']} {row['state']} {row['ended']}"


def find_sent(folder: Path, key: str) -> tuple[str, Sent] | None:
    """Return the address and what it has of the MLflow run of that key: the newest, None if none was sent. Never writes.

    A file that cannot be read (somebody is only just making it, or it is damaged) says of nothing that it was sent.
    """
    path = folder / "outbox.db"
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_PATIENCE)) as connection:
            connection.row_factory = sqlite3.Row
            row = connection.execute("SELECT * FROM sent WHERE key=? ORDER BY rowid DESC LIMIT 1", (key,)).fetchone()
    except sqlite3.DatabaseError:
        return None
    return None if row is None else (row["uri"], _sent(row))


def _sent(row: sqlite3.Row) -> Sent:
    return Sent(row["mlflow_run"], row["experiment"], row["identity"], row["position"], row["status"])
