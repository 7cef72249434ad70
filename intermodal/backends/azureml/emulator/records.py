"""What the workspace remembers: one SQLite file for assets, runs and what runs logged. Times are seconds since the epoch, UTC.

Every change is a transaction of its own. A run that has ended keeps its status for ever.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.emulator.contract import ENDED, Change, Status
from intermodal.engine.database import writing

_SCHEMA = """
CREATE TABLE IF NOT EXISTS assets (
  sequence INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
  properties TEXT NOT NULL, created REAL NOT NULL, modified REAL NOT NULL, UNIQUE (kind, name, version)
) STRICT;
CREATE TABLE IF NOT EXISTS experiments (
  name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, created REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS runs (
  sequence INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, root TEXT NOT NULL, parent TEXT,
  node TEXT NOT NULL, display_name TEXT NOT NULL, description TEXT, experiment TEXT NOT NULL, body TEXT NOT NULL,
  status TEXT NOT NULL, error TEXT, outputs TEXT NOT NULL DEFAULT '{}', properties TEXT NOT NULL DEFAULT '{}',
  tags TEXT NOT NULL DEFAULT '{}', log TEXT, hidden INTEGER NOT NULL DEFAULT 0,
  created REAL NOT NULL, started REAL, ended REAL
) STRICT;
CREATE INDEX IF NOT EXISTS children ON runs (parent);
CREATE INDEX IF NOT EXISTS below ON runs (root);
CREATE TABLE IF NOT EXISTS metrics (
  sequence INTEGER PRIMARY KEY, run TEXT NOT NULL, key TEXT NOT NULL, value REAL,
  timestamp INTEGER NOT NULL, step INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS metrics_of ON metrics (run, key);
CREATE TABLE IF NOT EXISTS parameters (
  run TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)
) STRICT;
"""


@dataclass(frozen=True)
class Asset:
    """One version of a code, data, environment, component or model; or a datastore or a compute, whose version is empty."""

    kind: str
    name: str
    version: str
    properties: Mapping[str, Any]
    created: float
    modified: float


@dataclass(frozen=True)
class Run:
    """A job, a run below one, or a run that a program made by MLflow (`kind`: job, child, mlflow)."""

    id: str
    kind: str
    root: str
    parent: str | None
    node: str
    display_name: str
    experiment: str
    body: Mapping[str, Any]
    created: float
    status: Status = "NotStarted"
    description: str | None = None
    error: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    log: str | None = None
    hidden: bool = False
    started: float | None = None
    ended: float | None = None
    sequence: int = 0


@dataclass(frozen=True)
class Metric:
    """A value that a run logged; `timestamp` in milliseconds, as MLflow has it. The value may be infinite, or NaN."""

    key: str
    value: float
    timestamp: int
    step: int


class Records:
    """The file at `path`, made if absent. One connection, guarded by a lock."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, writing(self._db):
            yield self._db

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(statement, values).fetchall()

    # Assets

    def put_asset(self, kind: str, name: str, version: str, properties: Mapping[str, Any]) -> Asset:
        """Write an asset, over an older one of that name and version."""
        now = time.time()
        with self._transaction() as db:
            db.execute(
                "INSERT INTO assets (kind, name, version, properties, created, modified) VALUES (?,?,?,?,?,?)"
                " ON CONFLICT DO UPDATE SET properties=excluded.properties, modified=excluded.modified",
                (kind, name, version, json.dumps(properties), now, now),
            )
        return self.asset(kind, name, version)

    def asset(self, kind: str, name: str, version: str = "") -> Asset:
        """Return an asset. Raises KeyError."""
        rows = self._rows("SELECT * FROM assets WHERE kind=? AND name=? AND version=?", (kind, name, version))
        if not rows:
            raise KeyError(f"{kind}/{name}/versions/{version}" if version else f"{kind}/{name}")
        return _asset(rows[0])

    def assets(self, kind: str, name: str | None = None) -> list[Asset]:
        """Return the assets of a kind, or all versions of one, the oldest first."""
        where, values = ("", (kind,)) if name is None else (" AND name=?", (kind, name))
        return [
            _asset(row) for row in self._rows(f"SELECT * FROM assets WHERE kind=?{where} ORDER BY sequence", values)
        ]

    # Experiments

    def experiment_id(self, name: str) -> str:
        """Return the id of an experiment, which is made if there is none."""
        if found := self._rows("SELECT id FROM experiments WHERE name=?", (name,)):
            return str(found[0]["id"])
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO experiments VALUES (?,?,?)", (name, str(uuid.uuid4()), time.time()))
            return str(db.execute("SELECT id FROM experiments WHERE name=?", (name,)).fetchone()["id"])

    def experiments(self) -> list[tuple[str, str, float]]:
        """Return name, id and time of creation of all experiments."""
        rows = self._rows("SELECT * FROM experiments ORDER BY created")
        return [(row["name"], row["id"], row["created"]) for row in rows]

    # Runs

    def add_run(self, run: Run) -> None:
        """Write a new run. Raises KeyError if there is one of that id."""
        try:
            with self._transaction() as db:
                db.execute(
                    "INSERT INTO runs (id, kind, root, parent, node, display_name, description, experiment, body, status,"
                    " properties, tags, created, started) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    (
                        run.id, run.kind, run.root, run.parent, run.node, run.display_name, run.description, run.experiment,
                        json.dumps(run.body), run.status, json.dumps(run.properties), json.dumps(run.tags), run.created,
                        run.started,
                    ),
                )  # fmt: skip
        except sqlite3.IntegrityError as error:
            raise KeyError(f"there is a run {run.id}") from error

    def run(self, id: str) -> Run:
        """Return a run. Raises KeyError."""
        rows = self._rows("SELECT * FROM runs WHERE id=?", (id,))
        if not rows:
            raise KeyError(id)
        return _run(rows[0])

    def children(self, parent: str) -> list[Run]:
        return [_run(row) for row in self._rows("SELECT * FROM runs WHERE parent=? ORDER BY sequence", (parent,))]

    def below(self, root: str) -> list[Run]:
        """Return all runs below a job, at any depth, in the order in which they came."""
        return [
            _run(row) for row in self._rows("SELECT * FROM runs WHERE root=? AND id<>root ORDER BY sequence", (root,))
        ]

    def jobs(self) -> list[Run]:
        """Return all jobs, the newest first."""
        return [_run(row) for row in self._rows("SELECT * FROM runs WHERE kind='job' ORDER BY sequence DESC")]

    def runs(self, experiments: Sequence[str]) -> list[Run]:
        """Return all runs of experiments (their names), the newest first."""
        marks = ",".join("?" * len(experiments))
        rows = self._rows(f"SELECT * FROM runs WHERE experiment IN ({marks}) ORDER BY sequence DESC", experiments)
        return [_run(row) for row in rows]

    def living(self) -> list[Run]:
        """Return the jobs and children that have not ended."""
        marks = ",".join("?" * len(ENDED))
        rows = self._rows(f"SELECT * FROM runs WHERE kind<>'mlflow' AND status NOT IN ({marks})", sorted(ENDED))
        return [_run(row) for row in rows]

    def change_run(self, id: str, change: Change) -> Run:
        """Write down what became of a run and return it. Raises KeyError."""
        with self._transaction() as db:
            row = db.execute("SELECT * FROM runs WHERE id=?", (id,)).fetchone()
            if row is None:
                raise KeyError(id)
            old = _run(row)
            now = time.time()
            status = _next_status(old.status, change.status)
            started = old.started or (now if status == "Running" or status in ENDED else None)
            ended = old.ended or (now if status in ENDED else None)
            db.execute(
                "UPDATE runs SET status=?, error=?, outputs=?, properties=?, tags=?, log=?, started=?, ended=? WHERE id=?",
                (
                    status,
                    old.error if change.error is None else change.error,
                    json.dumps({**old.outputs, **change.outputs}),
                    json.dumps({**old.properties, **change.properties}),
                    json.dumps({**old.tags, **change.tags}),
                    old.log if change.log is None else str(change.log),
                    started,
                    ended,
                    id,
                ),
            )
        return self.run(id)

    def describe_run(self, id: str, **columns: Any) -> None:
        """Change what people say of a run: display_name, description, hidden."""
        known = {name: value for name, value in columns.items() if name in ("display_name", "description", "hidden")}
        assert known == columns, columns
        with self._transaction() as db:
            for name, value in known.items():
                db.execute(f"UPDATE runs SET {name}=? WHERE id=?", (value, id))

    def remove_tags(self, id: str, names: Sequence[str]) -> None:
        with self._transaction() as db:
            tags = json.loads(db.execute("SELECT tags FROM runs WHERE id=?", (id,)).fetchone()["tags"])
            left = {name: value for name, value in tags.items() if name not in names}
            db.execute("UPDATE runs SET tags=? WHERE id=?", (json.dumps(left), id))

    # What runs logged

    def log(self, run: str, metrics: Sequence[Metric], parameters: Mapping[str, str]) -> None:
        """Write metrics and parameters. Raises ValueError for a parameter that has another value already."""
        with self._transaction() as db:
            for key, value in parameters.items():
                db.execute("INSERT OR IGNORE INTO parameters VALUES (?,?,?)", (run, key, value))
                found = db.execute("SELECT value FROM parameters WHERE run=? AND key=?", (run, key)).fetchone()["value"]
                if found != value:
                    raise ValueError(f"parameter {key!r} is {found!r} already, and cannot become {value!r}")
            db.executemany(
                "INSERT INTO metrics (run, key, value, timestamp, step) VALUES (?,?,?,?,?)",
                [(run, metric.key, metric.value, metric.timestamp, metric.step) for metric in metrics],
            )

    def parameters(self, run: str) -> dict[str, str]:
        return {row["key"]: row["value"] for row in self._rows("SELECT * FROM parameters WHERE run=?", (run,))}

    def metric_history(self, run: str, key: str | None = None) -> list[Metric]:
        """Return all values that a run logged, or those of one metric, in the order in which they came."""
        where, values = ("", (run,)) if key is None else (" AND key=?", (run, key))
        rows = self._rows(f"SELECT * FROM metrics WHERE run=?{where} ORDER BY sequence", values)
        return [Metric(row["key"], _number(row["value"]), row["timestamp"], row["step"]) for row in rows]

    def last_metrics(self, run: str) -> dict[str, Metric]:
        """Return the last value of each metric: that of the greatest step, of the last time, as MLflow decides."""
        last: dict[str, Metric] = {}
        for metric in self.metric_history(run):
            before = last.get(metric.key)
            if before is None or (metric.step, metric.timestamp) >= (before.step, before.timestamp):
                last[metric.key] = metric
        return last


def _next_status(old: Status, new: Status | None) -> Status:
    """What has ended stays so, and what shall be cancelled can only end."""
    if new is None or old in ENDED or (old == "CancelRequested" and new not in ENDED):
        return old
    return new


def _number(value: float | None) -> float:
    return float("nan") if value is None else value  # SQLite keeps no NaN


def _asset(row: sqlite3.Row) -> Asset:
    return Asset(
        row["kind"], row["name"], row["version"], json.loads(row["properties"]), row["created"], row["modified"]
    )


def _run(row: sqlite3.Row) -> Run:
    return Run(
        id=row["id"],
        kind=row["kind"],
        root=row["root"],
        parent=row["parent"],
        node=row["node"],
        display_name=row["display_name"],
        experiment=row["experiment"],
        body=json.loads(row["body"]),
        created=row["created"],
        status=row["status"],
        description=row["description"],
        error=row["error"],
        outputs=json.loads(row["outputs"]),
        properties=json.loads(row["properties"]),
        tags=json.loads(row["tags"]),
        log=row["log"],
        hidden=bool(row["hidden"]),
        started=row["started"],
        ended=row["ended"],
        sequence=row["sequence"],
    )
