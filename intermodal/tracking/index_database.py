"""The local server's runs straight from its SQLite file, which takes a tenth of the time and less: MLflow makes an object of every value.

The file's tables are MLflow's own matter, so this reads those versions of them that it knows, and asks the server in every other case. It
never writes, and holds no lock for longer than a page takes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from intermodal.tracking.index_source import FromServer, Moment, Run, Source
from intermodal.tracking.rest import PAGE, Client
from intermodal.tracking.server import served_database

_VERSIONS = ("dc11669786a5",)
"""What `alembic_version` may say: MLflow 3.17 (requirements/dev.txt). Add one when the tests of both sources pass with it."""
_PATIENCE = 1.0
"""Seconds to wait for a lock; the server's own transactions take milliseconds."""
_WORKSPACE = "default"
"""That of whoever names none, as this program does."""

T = TypeVar("T")


def source_of(client: Client, folder: Path) -> Source:
    """Return where the runs of the client's server are best read; `folder` is the state folder's `tracking`."""
    server = FromServer(client)
    database = served_database(folder, client.uri)
    return server if database is None else FromEither(FromDatabase(database), server)


class FromEither:
    """The database until it cannot be read (locked, damaged, of another version), from then on the server."""

    def __init__(self, database: FromDatabase, server: FromServer) -> None:
        self._database: FromDatabase | None = database
        self._server = server

    def experiments(self) -> list[str]:
        return self._ask(lambda source: source.experiments())

    def pages(
        self, experiments: Sequence[str], moment: Moment, since: int, *, started_before: int | None = None
    ) -> Iterator[Sequence[Run]]:
        if self._database is not None:
            try:
                yield from self._database.pages(experiments, moment, since, started_before=started_before)
                return
            except sqlite3.Error:
                self._database = None
        yield from self._server.pages(experiments, moment, since, started_before=started_before)

    def first(self, experiments: Sequence[str], since: int, most: int) -> Sequence[Run]:
        return self._ask(lambda source: source.first(experiments, since, most))

    def named(self, experiments: Sequence[str], runs: Sequence[str]) -> Sequence[Run]:
        return self._ask(lambda source: source.named(experiments, runs))

    def _ask(self, question: Callable[[Source], T]) -> T:
        if self._database is not None:
            try:
                return question(self._database)
            except sqlite3.Error:
                self._database = None
        return question(self._server)


class FromDatabase:
    """Reads the file. All of it raises sqlite3.Error."""

    def __init__(self, path: Path, *, page: int = PAGE) -> None:
        self._path = path
        self._page = page

    def experiments(self) -> list[str]:
        with self._reading() as connection:
            sql = "SELECT experiment_id FROM experiments WHERE lifecycle_stage = 'active' AND workspace = ?"
            return [str(row[0]) for row in connection.execute(sql, (_WORKSPACE,))]

    def pages(
        self, experiments: Sequence[str], moment: Moment, since: int, *, started_before: int | None = None
    ) -> Iterator[Sequence[Run]]:
        more, values = ("", []) if started_before is None else (" AND start_time < ?", [started_before])
        with self._reading() as connection:
            ids = _ids(connection, experiments, f"{moment} >= ?{more} ORDER BY {moment}, run_uuid", since, *values)
        for start in range(0, len(ids), self._page):
            yield self.named(experiments, ids[start : start + self._page])

    def first(self, experiments: Sequence[str], since: int, most: int) -> Sequence[Run]:
        with self._reading() as connection:
            where = "start_time >= ? ORDER BY start_time, run_uuid LIMIT ?"
            return _runs(connection, _ids(connection, experiments, where, since, most))

    def named(self, experiments: Sequence[str], runs: Sequence[str]) -> Sequence[Run]:
        with self._reading() as connection:
            there = set(_ids(connection, experiments, f"run_uuid IN {_LIST}", json.dumps(runs)))
            return _runs(connection, [run for run in runs if run in there])

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Read the file as it is at one moment. The connection is a new one: the server may have changed the tables since."""
        address = f"{self._path.as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            versions = [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
            if len(versions) != 1 or versions[0] not in _VERSIONS:
                raise sqlite3.NotSupportedError(f"{self._path}: tables of an unknown version {versions}")
            yield connection


_LIST = "(SELECT value FROM json_each(?))"
"""A list of any length, as one value."""


def _ids(connection: sqlite3.Connection, experiments: Sequence[str], where: str, *values: Any) -> list[str]:
    """Return the ids of the runs that are not deleted and for which it holds."""
    sql = f"SELECT run_uuid FROM runs WHERE experiment_id IN {_LIST} AND lifecycle_stage = 'active' AND {where}"
    return [row[0] for row in connection.execute(sql, (json.dumps([int(name) for name in experiments]), *values))]


def _runs(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Run]:
    """Return these runs, in this order, as the REST interface gives them (MLflow's `SqlRun.to_mlflow_entity`)."""
    asked = (json.dumps(ids),)
    info = {
        row[0]: dict(zip(("run_id", "run_name", "experiment_id", "status", "start_time", "end_time"), row, strict=True))
        for row in connection.execute(
            "SELECT run_uuid, name, CAST(experiment_id AS TEXT), status, start_time, end_time FROM runs"
            f" WHERE run_uuid IN {_LIST}",
            asked,
        )
    }
    data: dict[str, dict[str, list[dict[str, Any]]]] = {run: {"tags": [], "params": [], "metrics": []} for run in ids}
    for what, table, value in (
        ("tags", "tags", "value"),
        ("params", "params", "value"),
        ("metrics", "latest_metrics", "CASE WHEN is_nan THEN 'NaN' ELSE value END"),
    ):
        sql = f"SELECT run_uuid, key, {value} FROM {table} WHERE run_uuid IN {_LIST}"
        for run, key, given in connection.execute(sql, asked):
            data[run][what].append({"key": key, "value": given})
    return [{"info": info[run], "data": data[run]} for run in ids]
