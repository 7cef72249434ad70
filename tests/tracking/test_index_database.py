"""The local server's database as a source of the index: the same index as over REST, and REST wherever it does not do."""

from __future__ import annotations

import math
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param

from intermodal.spec.document import sha256_text
from intermodal.tracking import schema
from intermodal.tracking.find import find_mlflow_run
from intermodal.tracking.index import Index
from intermodal.tracking.index_database import FromDatabase, FromEither, source_of
from intermodal.tracking.index_source import FromServer, Moment, Run
from intermodal.tracking.index_sync import SLICE, behind, rebuild, sync
from intermodal.tracking.server import served_database
from tests.tracking.conftest import Counting
from tests.tracking.made import Made

LONG_AGO = 1_500_000_000_000
T = TypeVar("T")


class Both:
    """Two indexes of one server, one over REST, one from its database."""

    def __init__(self, folder: Path, server: str, server_folder: Path) -> None:
        self.rest, self.unused = Counting(server), Counting(server)
        self.over_rest = Index(folder / "rest", server), FromServer(self.rest)
        self.from_file = Index(folder / "file", server), source_of(self.unused, server_folder)

    def sync(self) -> None:
        self._same([(done.new, done.changed, done.gone) for done in (sync(*self.over_rest), sync(*self.from_file))])

    def rebuild(self) -> int:
        """Return how many went."""
        done = rebuild(*self.over_rest), rebuild(*self.from_file)
        self._same([(one.new, one.changed, one.gone) for one in done])
        return done[1].gone

    def behind(self) -> int:
        return self._same([behind(*self.over_rest), behind(*self.from_file)])

    def ids(self, experiment: str, moment: Moment, since: int, started_before: int | None = None) -> list[str]:
        pages = [
            source.pages([experiment], moment, since, started_before=started_before)
            for _, source in (self.over_rest, self.from_file)
        ]
        return self._same([_ids(run for page in some for run in page) for some in pages])

    def first(self, experiment: str, since: int, most: int) -> list[str]:
        sources = (self.over_rest[1], self.from_file[1])
        return self._same([_ids(source.first([experiment], since, most)) for source in sources])

    def put(self, run: dict[str, Any]) -> None:
        for index, _ in (self.over_rest, self.from_file):
            index.put([run])

    def _same(self, did: list[T]) -> T:
        assert did[0] == did[1]
        assert _content(self.over_rest[0]) == _content(self.from_file[0])
        assert not self.unused.asked, "the server was asked"
        return did[1]

    def close(self) -> None:
        for index, _ in (self.over_rest, self.from_file):
            index.close()


def _ids(runs: Iterable[Run]) -> list[str]:
    return [run["info"]["run_id"] for run in runs]


def _content(index: Index) -> list[Any]:
    """Return all that the index holds, but when it was brought in step."""
    tables = ("runs ORDER BY id", "artifacts ORDER BY digest, direction, run, name")
    rows = [tuple(row) for table in tables for row in index.query(f"SELECT * FROM {table}")]
    meta = {name: value for name, value in index.meta().items() if name != "synced"}
    return [*rows, meta | {"experiments": sorted(meta.get("experiments", ()))}]


@pytest.fixture
def both(tmp_path: Path, server: str, server_folder: Path) -> Iterator[Both]:
    both = Both(tmp_path, server, server_folder)
    yield both
    both.close()


def _everything(made: Made, client: MlflowClient) -> dict[str, str]:
    """Make runs with all that a run can have; return their ids by what is special about them."""
    start = int(time.time() * 1000) - 1000
    rich = made.run(
        "Läufe 走 🏃", inputs=("d",), outputs=("m", "n"), task="schön/🚀", params={"Größe": "naïve", "n": 7}
    )
    points = [("f1", 0.1, 0), ("f1", 1 / 3, 1), ("nan", 1.0, 0), ("nan", math.nan, 1), ("inf", math.inf, 0)]
    points += [("-inf", -math.inf, 0), ("one", 1.0, 0), ("tiny", 5e-324, 0), ("zero", 0.0, 0), ("back", 2.0, 5)]
    points += [("back", 9.0, 4)]
    client.log_batch(
        rich,
        metrics=[Metric(name, value, start + step, step) for name, value, step in points],
        params=[Param("empty", ""), Param("long", "x" * 5000), Param("quoted", "a'b\"c\n\\ %_")],
    )
    dataset = Dataset(name="corpus", digest="0123", source_type="local", source="{}")
    client.log_inputs(rich, [DatasetInput(dataset=dataset)])
    nested = client.create_run(made.experiment, tags={"mlflow.parentRunId": rich, schema.PARENT: rich}).info.run_id
    client.set_terminated(nested, "KILLED")
    deleted = made.run("deleted")
    client.delete_run(deleted)
    gone = Made(client)
    lost = gone.run("in a deleted experiment")
    client.delete_experiment(gone.experiment)
    open_again = made.run("open again")
    client.update_run(open_again, "RUNNING")
    long_run = client.create_run(made.experiment, start_time=LONG_AGO).info.run_id
    client.set_terminated(long_run, end_time=start)
    return {
        "rich": rich,
        "nested": nested,
        "deleted": deleted,
        "lost": lost,
        "open again": open_again,
        "long": long_run,
        "running": made.run("runs", status="RUNNING"),
        "failed": made.run("failed", status="FAILED"),
        "bare": client.create_run(made.experiment, start_time=LONG_AGO).info.run_id,
        "old": made.run("old", start=LONG_AGO + 1),
        "older": made.run("older", start=LONG_AGO + 1),
    }


def test_both_sources_give_the_same_index(both: Both, made: Made, client: MlflowClient, server_folder: Path) -> None:
    runs = _everything(made, client)
    before = (server_folder / "mlflow.db").stat().st_mtime_ns
    both.sync()
    index = both.from_file[0]
    assert (server_folder / "mlflow.db").stat().st_mtime_ns == before and not list(server_folder.glob("mlflow.db-*"))
    [rich] = index.select("id = ?", [runs["rich"]])
    assert rich.metrics.items() >= {"f1": 1 / 3, "nan": "NaN", "one": 1.0, "tiny": 5e-324, "back": 2.0}.items()
    assert rich.params.items() >= {"Größe": "naïve", "empty": "", "quoted": "a'b\"c\n\\ %_"}.items()
    assert rich.name == "Läufe 走 🏃" and set(rich.artifacts("output")) == {"m", "n"}
    there = {row["id"]: row["status"] for row in index.query("SELECT id, status FROM runs")}
    assert there[runs["nested"]] == "KILLED" and there[runs["failed"]] == "FAILED"
    assert there[runs["running"]] == "RUNNING" and not there.keys() & {runs["deleted"], runs["lost"]}

    in_order = both.ids(made.experiment, "start_time", LONG_AGO + 1)
    assert in_order[:2] == sorted([runs["old"], runs["older"]]) and runs["bare"] not in in_order
    assert both.first(made.experiment, LONG_AGO + 1, 3) == in_order[:3]
    assert both.ids(made.experiment, "end_time", LONG_AGO + 10**11, LONG_AGO + 1) == [runs["long"]]
    assert both.ids(made.experiment, "end_time", LONG_AGO + 10**11, LONG_AGO) == []

    made.run("new")
    assert both.behind() == 1
    client.set_terminated(runs["running"])
    client.delete_run(runs["open again"])  # open ones are looked at again,
    made.tag(runs["older"], "seen", "later")
    client.delete_run(runs["old"])  # others when their slice of the past comes
    client.restore_run(runs["deleted"])
    for _ in range(2 + len(index) // SLICE):
        both.sync()
    assert both.behind() == 0
    assert not index.select("id IN (?, ?)", [runs["old"], runs["open again"]])
    assert index.select("id = ?", [runs["older"]])[0].tag("seen") == "later"

    both.put({"info": {"run_id": "ghost", "experiment_id": made.experiment, "status": "FINISHED", "start_time": 1}})
    assert both.rebuild() == 1


@contextmanager
def _changed(database: Path, statement: str, back: str) -> Iterator[None]:
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        connection.execute(statement)
        try:
            yield
        finally:
            connection.execute(back)


def test_tables_of_an_unknown_version_are_left_to_the_server(
    tmp_path: Path, server: str, server_folder: Path, made: Made
) -> None:
    database = server_folder / "mlflow.db"
    run = made.run(f"found {made.pipeline}")
    version = "UPDATE alembic_version SET version_num = "
    with closing(sqlite3.connect(database)) as connection:
        known = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    rest = Counting(server)
    with _changed(database, f"{version}'0123456789ab'", f"{version}'{known}'"), Index(tmp_path, server) as index:
        sync(index, source_of(rest, server_folder))
        assert rest.answered and index.select("id = ?", [run])
        identity = sha256_text(f"found {made.pipeline}")
        assert find_mlflow_run(identity, tracking_uri=server, state_folder=server_folder.parent).id == run


def test_a_file_that_stays_locked_is_left_to_the_server(server: str, server_folder: Path, made: Made) -> None:
    runs = {made.run(f"run {number}", start=LONG_AGO + number // 4) for number in range(12)}
    rest = Counting(server)
    source = FromEither(FromDatabase(server_folder / "mlflow.db", page=5), FromServer(rest, page=5))
    pages = source.pages([made.experiment], "start_time", 0)
    seen = set(_ids(next(pages)))
    assert len(seen) == 5 and not rest.asked
    locking = sqlite3.connect(server_folder / "mlflow.db", isolation_level=None, check_same_thread=False)
    with closing(locking):
        locking.execute("BEGIN EXCLUSIVE")
        later = threading.Timer(3.0, locking.execute, ["ROLLBACK"])  # the server waits for twenty seconds
        later.start()
        seen |= {run for page in pages for run in _ids(page)}
        later.join()
    assert seen == runs and rest.asked
    rest.asked.clear()
    assert made.experiment in source.experiments() and rest.asked  # what could not be read once is not tried again


def test_a_file_with_a_log_beside_it_is_read_too(tmp_path: Path, server_folder: Path, made: Made) -> None:
    run = made.run("run")
    copy = tmp_path / "mlflow with space?.db"
    shutil.copy(server_folder / "mlflow.db", copy)
    with closing(sqlite3.connect(copy, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("UPDATE runs SET name = 'in the log' WHERE run_uuid = ?", (run,))
        writer.execute("BEGIN IMMEDIATE")  # a writer at work keeps no reader waiting
        [found] = FromDatabase(copy).named([made.experiment], [run])
        assert found["info"]["run_name"] == "in the log"


def test_only_the_database_of_that_very_server_is_read(tmp_path: Path, server: str, server_folder: Path) -> None:
    assert served_database(server_folder, server) == server_folder / "mlflow.db"
    assert served_database(server_folder, "http://127.0.0.1:1") is None
    assert served_database(tmp_path, server) is None
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("server.json", "mlflow.db"):  # the process lives, and serves another file
        shutil.copy(server_folder / name, copy)
    assert served_database(copy, server) is None
