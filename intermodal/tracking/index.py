"""The index: what one tracking server's runs say, in one SQLite file of the state folder. A cache: it may be deleted at any time.

`<state>/tracking/index-<hash of the address>.db`. Look-ups read it alone; `index_sync` keeps it in step with the server. Any number of
processes may read and write it: a write is a transaction, and one process at a time works on keeping it in step.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.engine.database import writing
from intermodal.errors import EnvironmentProblem
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.tracking import schema
from intermodal.turns import alone

_SCHEMA_VERSION = 1
PATIENCE = 60.0
"""Seconds to wait for another process that writes the index, or asks the server for what is in it."""
_SCHEMA = """
CREATE TABLE runs (
  id TEXT PRIMARY KEY, experiment TEXT NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL, started INTEGER NOT NULL, ended INTEGER,
  fingerprint TEXT, kind TEXT, run TEXT, task TEXT, state TEXT, pipeline TEXT, component TEXT, cached_from TEXT, parent TEXT,
  document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX by_fingerprint ON runs (fingerprint);
CREATE INDEX by_run ON runs (run);
CREATE INDEX by_parent ON runs (parent);
CREATE INDEX by_component ON runs (component, started);
CREATE INDEX by_started ON runs (started);
CREATE INDEX by_status ON runs (status);
CREATE TABLE artifacts (
  digest TEXT NOT NULL, direction TEXT NOT NULL, run TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (digest, direction, run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_of_run ON artifacts (run);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
_TAGS = {
    "fingerprint": schema.FINGERPRINT,
    "kind": schema.KIND,
    "run": schema.RUN,
    "task": schema.TASK,
    "state": schema.STATE,
    "pipeline": schema.PIPELINE,
    "component": schema.COMPONENT,
    "cached_from": schema.CACHED_FROM,
    "parent": schema.PARENT,
}
"""Column -> tag."""
_COLUMNS = ("id", "experiment", "name", "status", "started", "ended", *_TAGS, "document")
OPEN = ("RUNNING", "SCHEDULED")
"""MLflow's states of a run that may still change."""


@dataclass(frozen=True)
class IndexedRun:
    """An MLflow run as the index has it. Times are milliseconds since the epoch; numbers that are none (`NaN`) are text."""

    id: str
    experiment: str
    name: str
    status: str
    started: int
    ended: int | None
    params: Mapping[str, str]
    metrics: Mapping[str, float | str]
    """The last value of each."""
    tags: Mapping[str, str]

    def tag(self, name: str) -> str:
        return self.tags.get(name, "")

    def artifacts(self, direction: str) -> dict[str, list[str]]:
        """Return the digests (hex) of the run's `input` or `output` artifacts by name."""
        return digests_of(self.tags, direction)


class Index:
    """The index of the server at `uri`, made if absent. Raises EnvironmentProblem where the disk or the file does not do."""

    def __init__(self, folder: Path, uri: str) -> None:
        """`folder` is the state folder's `tracking`."""
        self.uri = uri
        self.path = _path(folder, uri)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = self._open()
        except (OSError, sqlite3.Error) as error:
            raise EnvironmentProblem(
                f"{self.path}: the index cannot be opened: {error}", hint="`intermodal index --rebuild` makes it anew"
            ) from error

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        if connection.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA_VERSION:
            with writing(connection):
                if connection.execute("PRAGMA user_version").fetchone()[0] != _SCHEMA_VERSION:
                    _make(connection)
        return connection

    def alone(self) -> AbstractContextManager[int]:
        """Be the one process that brings the index in step; another one waits here, for so long. Raises Busy."""
        return alone(self.path.with_suffix(".lock"), f"bringing the index of {self.uri} in step", PATIENCE)

    # Writing

    def put(self, runs: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
        """Take runs as MLflow's REST interface gives them; return how many are new, and how many changed."""
        rows = [_row(run) for run in runs]
        known: dict[str, tuple[Any, ...]] = {}
        with self.transaction() as connection:
            for some in _split([row[0] for row in rows], 500):
                marks = ",".join("?" * len(some))
                for found in connection.execute(f"SELECT {','.join(_COLUMNS)} FROM runs WHERE id IN ({marks})", some):
                    known[found["id"]] = tuple(found)
            changed = [row for row in rows if known.get(row[0]) != row]
            names = ",".join("?" * len(_COLUMNS))
            connection.executemany(
                f"INSERT OR REPLACE INTO runs ({','.join(_COLUMNS)}) VALUES ({names})", list(changed)
            )
            connection.executemany(
                "DELETE FROM artifacts WHERE run=?", [(row[0],) for row in changed if row[0] in known]
            )
            connection.executemany(
                "INSERT OR IGNORE INTO artifacts (digest, direction, run, name) VALUES (?,?,?,?)",
                [entry for row in changed for entry in _artifact_rows(row)],
            )
        new = len({row[0] for row in changed} - known.keys())
        return new, len(changed) - new

    def remove(self, runs: Iterable[str]) -> int:
        """Forget runs; return how many there were."""
        ids = [(run,) for run in runs]
        with self.transaction() as connection:
            gone = connection.executemany("DELETE FROM runs WHERE id=?", ids).rowcount if ids else 0
            connection.executemany("DELETE FROM artifacts WHERE run=?", ids)
        return max(gone, 0)

    def set_meta(self, values: Mapping[str, Any]) -> None:
        with self.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?,?)",
                [(name, canonical_json(value)) for name, value in values.items()],
            )

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and alone among writers."""
        with writing(self._connection):
            yield self._connection

    # Reading

    def meta(self) -> dict[str, Any]:
        return {row["name"]: json.loads(row["value"]) for row in self._connection.execute("SELECT * FROM meta")}

    @property
    def age(self) -> float | None:
        """Seconds since the index was in step with the server, None if it never was."""
        synced = self.meta().get("synced")
        return None if synced is None else max(0.0, time.time() - float(synced))

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._connection.execute(sql, values).fetchall()

    def select(self, where: str, values: Sequence[Any] = (), *, most: int = 1000) -> list[IndexedRun]:
        """Return runs in the order in which they started, at most `most` of them."""
        rows = self.query(f"SELECT * FROM runs WHERE {where} ORDER BY started, id LIMIT ?", (*values, most))
        return [_indexed(row) for row in rows]

    def __len__(self) -> int:
        return int(self.query("SELECT count(*) FROM runs")[0][0])


def delete_damaged(folder: Path, uri: str) -> None:
    """Delete the index of that server if SQLite cannot read all of it."""
    path = _path(folder, uri)
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
            good = connection.execute("PRAGMA quick_check").fetchone()[0] == "ok"
    except sqlite3.DatabaseError:
        good = False
    if not good:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _path(folder: Path, uri: str) -> Path:
    return folder / f"index-{sha256_text(uri)[:16]}.db"


def digests_of(tags: Mapping[str, str], direction: str) -> dict[str, list[str]]:
    """Return the digests (hex) that a run's tags name as its `input` or `output` artifacts, by name; none if the tag is no such JSON."""
    try:
        found = json.loads(tags.get(schema.INPUTS if direction == "input" else schema.OUTPUTS, "{}"))
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    lists = {name: given if isinstance(given, list) else [given] for name, given in found.items()}
    return {name: [bare_digest(item) for item in items if isinstance(item, str)] for name, items in lists.items()}


def bare_digest(digest: str) -> str:
    return digest.removeprefix("sha256:").lower()


def _make(connection: sqlite3.Connection) -> None:
    """Make the tables; those of another version go, since all of it can be had again."""
    for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall():
        connection.execute(f"DROP TABLE {row['name']}")
    for statement in _SCHEMA.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")


def _row(run: Mapping[str, Any]) -> tuple[Any, ...]:
    info, data = run["info"], run.get("data", {})
    tags = {item["key"]: item.get("value", "") for item in data.get("tags", ())}
    document = {
        "params": {item["key"]: item.get("value", "") for item in data.get("params", ())},
        "metrics": {item["key"]: item.get("value", 0.0) for item in data.get("metrics", ())},
        "tags": tags,
    }
    return (
        info["run_id"],
        str(info["experiment_id"]),
        info.get("run_name") or tags.get("mlflow.runName", ""),
        info.get("status", ""),
        int(info.get("start_time") or 0),
        int(info["end_time"]) if info.get("end_time") else None,
        *(tags.get(tag) for tag in _TAGS.values()),
        canonical_json(document),
    )


def _artifact_rows(row: tuple[Any, ...]) -> Iterator[tuple[str, str, str, str]]:
    tags = json.loads(row[-1])["tags"]
    for direction in ("input", "output"):
        for name, digests in digests_of(tags, direction).items():
            for digest in digests:
                yield digest, direction, row[0], name


def _indexed(row: sqlite3.Row) -> IndexedRun:
    document = json.loads(row["document"])
    return IndexedRun(
        **{name: row[name] for name in ("id", "experiment", "name", "status", "started", "ended")},
        params=document["params"],
        metrics=document["metrics"],
        tags=document["tags"],
    )


def _split(items: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), most):
        yield items[start : start + most]
