"""The run database: one SQLite file (WAL) for runs, tasks, attempts, the cache and remembered hashes.

Times are seconds since the epoch, UTC. Every write is its own transaction, so a reader never sees half a fact. A run's `turn`
counts its runners, from 1: a task and an attempt say in which turn they began, a clock that no change of the time of day bends.

A killed process loses nothing that it committed. A machine that loses its power may lose the last transactions (`synchronous` is
NORMAL), never their order: the work of a lost one is done again. What a row names (an artifact) is on the disk before the row.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Outputs
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.store import hash_file
from intermodal.errors import EnvironmentProblem

SCHEMA_VERSION = 4
_PATIENCE = 120.0
"""Seconds to wait for another process that writes. Each holds the lock for milliseconds."""
_LITTLE_SPACE = 1024 * 1024

_SCHEMA = """
CREATE TABLE runs (
  id TEXT PRIMARY KEY, pipeline TEXT NOT NULL, pipeline_digest TEXT NOT NULL, backend TEXT NOT NULL,
  arguments TEXT NOT NULL, configuration TEXT NOT NULL, configuration_digest TEXT NOT NULL,
  state TEXT NOT NULL, started REAL NOT NULL, ended REAL, outputs TEXT, request TEXT,
  turn INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE TABLE tasks (
  run TEXT NOT NULL REFERENCES runs(id), path TEXT NOT NULL, component TEXT NOT NULL, state TEXT NOT NULL,
  fingerprint TEXT, inputs TEXT, outputs TEXT, cached_from TEXT,
  failure_class TEXT, failure TEXT, exit_code INTEGER, started REAL, ended REAL, parts TEXT, reason TEXT,
  turn INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (run, path)
) STRICT;
CREATE TABLE attempts (
  run TEXT NOT NULL, path TEXT NOT NULL, number INTEGER NOT NULL, handle TEXT, image TEXT NOT NULL, log TEXT NOT NULL,
  started REAL NOT NULL, ended REAL, exit_code INTEGER, failure_class TEXT, failure TEXT,
  launch TEXT, turn INTEGER NOT NULL DEFAULT 1, fingerprint TEXT, boot TEXT,
  PRIMARY KEY (run, path, number)
) STRICT;
CREATE TABLE cache (
  fingerprint TEXT PRIMARY KEY, component TEXT NOT NULL, outputs TEXT NOT NULL, run TEXT NOT NULL, path TEXT NOT NULL,
  seconds REAL NOT NULL, created REAL NOT NULL
) STRICT;
CREATE TABLE hashes (
  device INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL,
  PRIMARY KEY (device, inode)
) STRICT;
"""


_MIGRATIONS = {
    1: (
        "ALTER TABLE runs ADD COLUMN request TEXT",
        "ALTER TABLE tasks ADD COLUMN parts TEXT",
        "ALTER TABLE attempts ADD COLUMN launch TEXT",
    ),
    2: ("ALTER TABLE tasks ADD COLUMN reason TEXT",),
    3: (
        "ALTER TABLE runs ADD COLUMN turn INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE tasks ADD COLUMN turn INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE attempts ADD COLUMN turn INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE attempts ADD COLUMN fingerprint TEXT",
        "ALTER TABLE attempts ADD COLUMN boot TEXT",
    ),
}
"""Schema version -> the statements that make the next version of it."""

AttemptKey = tuple[str, str, int]
"""Run, path of the task, number of the attempt."""


@dataclass(frozen=True)
class AttemptStart:
    """What the record says of an attempt before it starts."""

    image: str
    log: str
    launch: str
    turn: int
    fingerprint: str
    boot: str
    """Which start of the machine it belongs to."""


@dataclass(frozen=True)
class CacheEntry:
    """What an earlier task with the same fingerprint gave, and where."""

    outputs: Outputs
    run: str
    path: str
    seconds: float


class RecordProblem(EnvironmentProblem):
    """The run database cannot be read or written now. `failure` is what becomes of an attempt by it."""

    def __init__(self, message: str, *, full: bool) -> None:
        super().__init__(message, hint="make room on the disk, then `intermodal resume`" if full else None)
        self.failure = Failure(FailureClass.DISK_FULL if full else FailureClass.ENGINE_LOST, message)


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and alone among the writers of the file."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Database:
    """The database file at `path`, made if absent. One connection, guarded by a lock; any number of processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise self._problem("opened", error) from error
        self._connection.row_factory = sqlite3.Row
        with self._explained("opened"):
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
        if self.query("PRAGMA user_version")[0][0] != SCHEMA_VERSION:
            self._prepare()

    def _prepare(self) -> None:
        with self.transaction() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            elif version in _MIGRATIONS:
                for step in range(version, SCHEMA_VERSION):
                    for statement in _MIGRATIONS[step]:
                        connection.execute(statement)
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise EnvironmentProblem(
                    f"{self._path}: was made by another version (schema {version}, this one reads {SCHEMA_VERSION})",
                    hint="use the version that made it, or another state folder (--state)",
                )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and alone among writers. Raises RecordProblem where the disk refuses the write."""
        with self._lock, self._explained("written"), writing(self._connection):
            yield self._connection

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        """Return all rows. Raises RecordProblem."""
        with self._lock, self._explained("read"):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn what the disk does to SQLite into RecordProblem; what is wrong with a statement stays as it is."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.DataError):
                raise
            raise self._problem(what, error) from error

    def _problem(self, what: str, error: OSError | sqlite3.Error) -> RecordProblem:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT)
        if code in (
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CANTOPEN,
        ):  # it says so where a file beside the database cannot grow
            with suppress(OSError):
                status = os.statvfs(self._path.parent)
                full = status.f_bavail * status.f_frsize < _LITTLE_SPACE
        return RecordProblem(f"{self._path}: the run database cannot be {what}: {error}", full=full)

    def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        """Execute one statement, which is a transaction of its own. Raises RecordProblem."""
        with self._lock, self._explained("written"):
            self._connection.execute(sql, values)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # Runs

    def add_run(
        self,
        run: str,
        pipeline: str,
        digest: str,
        backend: str,
        arguments: str,
        configuration: tuple[str, str],
        request: str,
    ) -> None:
        """`request` is everything that `resume` needs beside the pipeline, as JSON; of a replay, what it replays."""
        self._write(
            "INSERT INTO runs (id, pipeline, pipeline_digest, backend, arguments, configuration, configuration_digest, request,"
            " state, started) VALUES (?,?,?,?,?,?,?,?,'RUNNING',?)",
            (run, pipeline, digest, backend, arguments, *configuration, request, time.time()),
        )

    def reopen_run(self, run: str, turn: int) -> None:
        """Say that the run goes on, and what ended without being green is to come again: its attempts tell of its failures."""
        with self.transaction() as connection:
            connection.execute("UPDATE runs SET state='RUNNING', ended=NULL, turn=? WHERE id=?", (turn, run))
            connection.execute(
                "UPDATE tasks SET state='PENDING', ended=NULL, failure_class=NULL, failure=NULL, exit_code=NULL"
                " WHERE run=? AND state NOT IN ('RUNNING', 'SUCCEEDED', 'CACHED')",
                (run,),
            )

    def end_run(self, run: str, state: str, outputs: Outputs) -> None:
        """Record how the run ended. What an earlier turn had, and this one did not come to (a shorter loop), is no task of it."""
        with self.transaction() as connection:
            connection.execute(
                "UPDATE runs SET state=?, ended=?, outputs=? WHERE id=?",
                (state, time.time(), _dump(outputs.as_json()), run),
            )
            connection.execute("DELETE FROM tasks WHERE run=? AND state='PENDING'", (run,))

    # Tasks and attempts

    def put_task(self, run: str, path: str, component: str, values: Mapping[str, Any]) -> None:
        """Insert or update the task; `values` are columns of the table."""
        self._write(*_put_task(run, path, component, values))

    def start_attempt(self, key: AttemptKey, component: str, task: Mapping[str, Any], attempt: AttemptStart) -> None:
        """Record that an attempt is about to start and, with `task` (columns of its table), that its task runs."""
        with self.transaction() as connection:
            connection.execute(*_put_task(key[0], key[1], component, task))
            connection.execute(
                "INSERT INTO attempts (run, path, number, image, log, launch, turn, fingerprint, boot, started)"
                " VALUES (?,?,?,?,?,?,?,?,?,?)",
                (*key, *astuple(attempt), time.time()),
            )

    def set_handle(self, run: str, path: str, number: int, handle: str) -> None:
        self._write("UPDATE attempts SET handle=? WHERE run=? AND path=? AND number=?", (handle, run, path, number))

    def end_attempt(self, run: str, path: str, number: int, exit_code: int | None, failure: Failure | None) -> None:
        kind, message = (failure.kind.value, failure.message) if failure else (None, None)
        self._write(
            "UPDATE attempts SET ended=?, exit_code=?, failure_class=?, failure=? WHERE run=? AND path=? AND number=?",
            (time.time(), exit_code, kind, message, run, path, number),
        )

    def commit_success(
        self, key: AttemptKey, component: str, values: Mapping[str, Any], entry: tuple[str, Outputs, float]
    ) -> None:
        """Record at once that an attempt succeeded, what its task gave, and the cache entry (fingerprint, outputs, seconds)."""
        fingerprint, outputs, seconds = entry
        now = time.time()
        with self.transaction() as connection:
            connection.execute(
                "UPDATE attempts SET ended=?, exit_code=0 WHERE run=? AND path=? AND number=?", (now, *key)
            )
            connection.execute(*_put_task(key[0], key[1], component, values))
            connection.execute(
                "INSERT INTO cache VALUES (?,?,?,?,?,?,?) ON CONFLICT (fingerprint) DO UPDATE SET outputs=excluded.outputs,"
                " run=excluded.run, path=excluded.path, seconds=excluded.seconds, created=excluded.created",
                (fingerprint, component, _dump(outputs.as_json()), key[0], key[1], seconds, now),
            )

    # Cache

    def cached(self, fingerprint: str) -> CacheEntry | None:
        rows = self.query("SELECT outputs, run, path, seconds FROM cache WHERE fingerprint=?", (fingerprint,))
        if not rows:
            return None
        row = rows[0]
        return CacheEntry(Outputs.from_json(json.loads(row["outputs"])), row["run"], row["path"], row["seconds"])

    # Hashes

    def file_hash(self, path: Path, status: os.stat_result) -> str:
        """Return the sha256 of `path`, remembered by (device, inode, size, mtime).

        A file changed in the last two seconds is not remembered: a clock tick may hide a second change.
        """
        key = (status.st_dev, status.st_ino)
        rows = self.query("SELECT size, mtime_ns, sha256 FROM hashes WHERE device=? AND inode=?", key)
        if rows and (rows[0]["size"], rows[0]["mtime_ns"]) == (status.st_size, status.st_mtime_ns):
            return str(rows[0]["sha256"])
        digest = hash_file(path, status)
        if time.time() - status.st_mtime > 2:
            self._write(
                "INSERT OR REPLACE INTO hashes VALUES (?,?,?,?,?)", (*key, status.st_size, status.st_mtime_ns, digest)
            )
        return digest


def _put_task(run: str, path: str, component: str, values: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that inserts or updates a task, and its values."""
    names = list(values)
    columns = "".join(f", {name}" for name in names)
    updates = ", ".join(f"{name}=excluded.{name}" for name in names)
    statement = (
        f"INSERT INTO tasks (run, path, component{columns}) VALUES (?,?,?{',?' * len(names)})"
        f" ON CONFLICT (run, path) DO UPDATE SET {updates}"
    )
    return statement, (run, path, component, *values.values())


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
