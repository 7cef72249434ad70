"""The index beside a real server: what it sees of new, changed and deleted runs, alone and in a crowd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from intermodal.errors import EnvironmentProblem
from intermodal.spec.document import sha256_text
from intermodal.tracking import schema
from intermodal.tracking.find import open_index
from intermodal.tracking.index import Index
from intermodal.tracking.index_source import FromServer
from intermodal.tracking.index_sync import SLICE, behind, rebuild, sync
from tests.tracking.conftest import Counting
from tests.tracking.made import Made

LONG_AGO = 1_600_000_000_000


@pytest.fixture
def source(rest: Counting) -> FromServer:
    return FromServer(rest)


@pytest.fixture
def index(tmp_path: Path, server: str) -> Iterator[Index]:
    with Index(tmp_path, server) as index:
        yield index


def state_of(index: Index, run: str) -> tuple[str, str] | None:
    """MLflow's status of a run and what its tag `seen` says, None if the index has it not."""
    found = index.select("id = ?", [run])
    return (found[0].status, found[0].tag("seen")) if found else None


def everything(client: MlflowClient) -> set[str]:
    experiments = [item.experiment_id for item in client.search_experiments()]
    return {run.info.run_id for run in client.search_runs(experiments, max_results=50_000)}


def ids(index: Index) -> set[str]:
    return {row["id"] for row in index.query("SELECT id FROM runs")}


def test_a_pass_sees_what_started_ended_changed_and_went(index: Index, source: FromServer, made: Made) -> None:
    going, stays, goes = (made.run(word, status="RUNNING") for word in ("going", "stays", "goes"))
    done = made.run("done", metrics={"f1": 0.5}, params={"lr": 0.1}, outputs=("model",))
    sync(index, source)
    assert state_of(index, going) == state_of(index, stays) == ("RUNNING", "")
    [found] = index.select("id = ?", [done])
    assert (found.status, found.metrics, found.params) == ("FINISHED", {"f1": 0.5}, {"lr": "0.1"})
    assert found.artifacts("output") == {"model": [sha256_text("model")]}

    made.client.set_terminated(going)
    made.tag(stays, "seen", "later")
    made.client.delete_run(goes)
    new = made.run("new")
    again = sync(index, source)
    assert state_of(index, going) == ("FINISHED", "")
    assert state_of(index, stays) == ("RUNNING", "later")
    assert state_of(index, goes) is None
    assert state_of(index, new) == ("FINISHED", "")
    assert (again.new, again.changed) == (1, 2) and again.gone >= 1
    assert sync(index, source).changed == 0


def test_the_past_is_looked_at_slice_by_slice(index: Index, source: FromServer, made: Made) -> None:
    old = [made.run(f"old-{number}", start=LONG_AGO + number) for number in range(3)]
    sync(index, source)
    made.client.delete_run(old[0])
    made.tag(old[1], "seen", "later")
    late = made.run("sent late", start=LONG_AGO + 1)
    for _ in range(2 + len(index) // SLICE):  # once around
        sync(index, source)
    assert state_of(index, old[0]) is None
    assert state_of(index, old[1]) == ("FINISHED", "later")
    assert state_of(index, late) == ("FINISHED", "")
    assert state_of(index, old[2]) == ("FINISHED", "")


def test_experiments_come_and_go_with_their_old_runs(
    index: Index, source: FromServer, made: Made, client: MlflowClient
) -> None:
    sync(index, source)
    other = Made(client)
    old = other.run("old", start=LONG_AGO)
    client.delete_experiment(made.experiment)
    sync(index, source)
    assert state_of(index, old) == ("FINISHED", "")
    client.delete_experiment(other.experiment)
    sync(index, source)
    assert state_of(index, old) is None
    client.restore_experiment(other.experiment)
    sync(index, source)
    assert state_of(index, old) == ("FINISHED", "")


def test_a_run_from_a_clock_that_is_ahead_hides_nothing(index: Index, source: FromServer, made: Made) -> None:
    made.run("from the future", start=int(time.time() * 1000) + 10**9)
    sync(index, source)
    now = made.run("now")
    sync(index, source)
    assert state_of(index, now) is not None
    # The future ends, so that it is no newest run of the tests that come.
    made.client.delete_experiment(made.experiment)


def test_a_pass_asks_for_what_is_new_not_for_what_is_there(
    index: Index, rest: Counting, source: FromServer, made: Made
) -> None:
    for number in range(30):
        made.run(f"old-{number}", start=LONG_AGO + number * 10**7)
    rebuild(index, source)
    for number in range(5):
        made.run(f"new-{number}")
    before = sum(row["started"] > (time.time() - 700) * 1000 for row in index.query("SELECT started FROM runs"))
    rest.asked.clear()
    rest.answered = 0
    done = sync(index, source)
    assert done.new == 5
    # The new and the last minutes', once by their start and once by their end; the open ones; a slice of the past.
    assert rest.answered <= 2 * (5 + before) + SLICE
    assert len(rest.asked) <= 5


def test_a_look_up_by_identity_reads_no_table(index: Index) -> None:
    from intermodal.tracking.find_conditions import conditions

    for asked in (conditions(sha256_text("a")), conditions(produced=sha256_text("a")), conditions("0123456789")):
        clause, values = asked[0].sql()
        plan = [row["detail"] for row in index.query(f"EXPLAIN QUERY PLAN SELECT * FROM runs WHERE {clause}", values)]
        assert not any(line.startswith("SCAN") for line in plan), plan


def test_many_runs_of_one_moment_are_all_read(index: Index, rest: Counting, made: Made) -> None:
    runs = {made.run(f"twin-{number}", start=LONG_AGO + number // 18) for number in range(20)}
    sync(index, FromServer(rest, page=7))
    assert runs <= ids(index)


def test_an_index_that_is_damaged_is_made_anew(tmp_path: Path, server: str, source: FromServer, made: Made) -> None:
    run = made.run("run")
    state = tmp_path / "state"
    with open_index(server, state) as place:
        place.bring_in_step()
        path = place.index.path
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"SQLite format 3\0" + b"nonsense" * 1000)
    with pytest.raises(EnvironmentProblem, match="cannot be opened"):
        open_index(server, state)
    with open_index(server, state, mend=True) as place:
        place.bring_in_step(all_of_it=True)
        assert state_of(place.index, run) == ("FINISHED", "")


def test_a_rebuilt_index_has_what_the_server_has(
    index: Index, source: FromServer, made: Made, client: MlflowClient
) -> None:
    made.run("run")
    index.put([{"info": {"run_id": "ghost", "experiment_id": made.experiment, "status": "FINISHED", "start_time": 1}}])
    assert rebuild(index, source).gone == 1
    assert ids(index) == everything(client)


def test_the_index_says_when_it_is_stale(tmp_path: Path, server: str, made: Made) -> None:
    with open_index(server, tmp_path / "state") as place:
        assert place.status().age is None
        place.bring_in_step()
        fresh = place.status()
        assert fresh.behind == 0 and fresh.age is not None and fresh.age < 120
        made.run("a")
        made.run("b")
        assert place.status().behind == behind(place.index, place.source) == 2
        place.index.set_meta({"synced": time.time() - 3600})
        aged = place.status().age
        assert aged is not None and aged >= 3600
        place.bring_in_step()
        assert place.status().behind == 0


_SYNCING = """
import sys
from pathlib import Path
from intermodal.tracking.index import Index
from intermodal.tracking.index_source import FromServer
from intermodal.tracking.index_sync import sync
from intermodal.tracking.rest import Client
for _ in range(int(sys.argv[3])):
    with Index(Path(sys.argv[1]), sys.argv[2]) as index:
        sync(index, FromServer(Client(sys.argv[2], {}, 60.0)))
        print("synced", flush=True)
"""


def test_two_processes_and_a_killed_one_keep_one_index_in_step(
    tmp_path: Path, server: str, source: FromServer, made: Made, client: MlflowClient
) -> None:
    def start(times: int) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _SYNCING, str(tmp_path), server, str(times)]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    killed, *others = start(1000), start(6), start(6)
    expected: set[str] = set()
    try:
        for number in range(12):
            run = made.run(f"crowd-{number}", status="RUNNING")
            if number % 3 == 0:
                client.delete_run(run)
                continue
            expected.add(run)
            client.set_terminated(run)
            if number == 8:
                assert killed.stdout is not None and killed.stdout.readline() == "synced\n"
                os.kill(killed.pid, signal.SIGKILL)
        for other in others:
            out, error = other.communicate(timeout=120)
            assert other.returncode == 0 and out.count("synced") == 6, error
    finally:
        for child in (killed, *others):
            child.kill()
            child.communicate()
    with Index(tmp_path, server) as index:
        sync(index, source)
        here = {run.id: run.status for run in index.select("experiment = ?", [made.experiment])}
        assert here == dict.fromkeys(expected, "FINISHED")
        assert index.query("PRAGMA integrity_check")[0][0] == "ok"
        assert ids(index) == everything(client)
        twice = index.query(
            "SELECT tag FROM (SELECT fingerprint AS tag, count(*) AS n FROM runs GROUP BY id) WHERE n > 1"
        )
        assert not twice
        assert index.select("fingerprint = ?", [sha256_text("crowd-1")])[0].tag(schema.STATE) == "SUCCEEDED"
