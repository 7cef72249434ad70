"""A tracking server that is not there, never answers, is full, or ends: the run is as green, and nothing is lost or sent twice."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from intermodal.tracking.follower import pause
from intermodal.tracking.outbox import Outbox, Sent, find_sent
from intermodal.tracking.server import find_server
from tests.tracking.conftest import Lab, See, wait_until
from tests.tracking.relay import Relay
from tests.tracking.test_tree import TRIALS

WHOLE = {"": "FINISHED", "/train@1": "FINISHED", "/bury@1": "FINISHED", **TRIALS}


@pytest.mark.parametrize("trouble", ["hang", "broken", "closed", "no outbox"])
def test_trouble_neither_fails_nor_slows_a_run_nor_loses_what_it_told(
    lab: Lab, relay: Relay, server: str, see: See, trouble: str
):
    lab.uri = relay.uri
    if trouble == "closed":
        relay.close()
    elif trouble == "no outbox":
        (lab.state / "tracking").write_text("no folder")
    else:
        relay.mode = trouble
    started = time.monotonic()
    run = lab.run("study", "--arg", "data=data.txt")
    took = time.monotonic() - started
    assert (run["state"], run["tracking"]) == ("SUCCEEDED", "")
    assert took < 30  # a server that never answers would be waited for that long with the first three requests
    if trouble == "no outbox":
        (lab.state / "tracking").unlink()
    else:
        end_follower(lab, run["run"])  # it goes on, and would send all of it by itself
    if trouble == "hang":
        assert relay.accepted == 1
    lab.uri = server
    lab.sync()
    assert see(run["run"]).statuses == WHOLE


def end_follower(lab: Lab, run: str) -> None:
    """Kill the process that sends a run, which holds the run for that."""
    os.kill(int((lab.state / "runs" / run / "tracking.lock").read_text()), signal.SIGKILL)


def test_the_follower_of_a_runner_that_was_killed_ends_and_leaves_the_rest_to_sync(lab: Lab, relay: Relay, see: See):
    relay.close()
    go = lab.state / "go"
    pipeline = str(lab.project / "patient.yaml")
    runner = lab.start("run", pipeline, "--backend", "process", "--arg", f"go={go}", INTERMODAL_TRACKING="off")
    wait_until(lambda: any((lab.state / "runs").glob("*/tasks/wait/*")))
    (run,) = (path.name for path in (lab.state / "runs").iterdir())
    runner.kill()
    runner.wait()
    code = f"""
from pathlib import Path
from intermodal.engine.layout import StateFolder
from intermodal.tracking.follower import Follower
Follower(StateFolder(Path({str(lab.state)!r})), {run!r}, {relay.uri!r}, interval=0.01).follow()
"""
    words = [sys.executable, "-c", code]
    try:
        subprocess.run(words, env=lab.environment(), stdin=subprocess.DEVNULL, check=True, timeout=60)
        assert "Connection refused" in (lab.state / "runs" / run / "tracking.log").read_text()
        lab.sync()
        seen = see(run)
        assert (set(seen.statuses.values()), seen.tag("", "state")) == ({"KILLED"}, "INTERRUPTED")
    finally:
        go.touch()  # the step outlives its runner


def test_a_follower_waits_no_longer_than_a_while_however_often_it_failed():
    assert [pause(1.0, failures) for failures in (0, 1, 3, 4, 5000)] == [1, 2, 8, 15, 15]


def test_a_follower_goes_on_after_what_nobody_foresaw_and_its_run_is_green(lab: Lab, see: See):
    go = lab.state / "go"
    runner = lab.start("run", str(lab.project / "patient.yaml"), "--backend", "process", "--arg", f"go={go}")
    wait_until(lambda: any((lab.state / "runs").glob("*/tasks/wait/*")))
    (run,) = (path.name for path in (lab.state / "runs").iterdir())
    wait_until(lambda: len(see(run).runs) == 3)
    outbox = lab.state / "tracking/outbox.db"
    with closing(sqlite3.connect(outbox, isolation_level=None)) as connection:
        connection.execute("DROP TABLE sent")
    go.touch()
    log = lab.state / "runs" / run / "tracking.log"
    wait_until(lambda: log.is_file() and "OperationalError: no such table: sent" in log.read_text())
    assert runner.wait(60) == 0
    Outbox(outbox.parent, lab.uri).__exit__()
    wait_until(lambda: set(see(run).statuses.values()) == {"FINISHED"})


def test_a_record_of_what_was_sent_that_cannot_be_read_fails_nobody(tmp_path: Path) -> None:
    with Outbox(tmp_path, "http://server") as outbox:
        outbox.put("run", "key", Sent("mlflow run", "1"))
    assert find_sent(tmp_path, "key") == ("http://server", Sent("mlflow run", "1"))
    for number, content in enumerate((b"", b"SQLite format 3\0" + b"nonsense" * 1000)):  # only just made, damaged
        folder = tmp_path / f"{number}?"
        folder.mkdir()
        (folder / "outbox.db").write_bytes(content)
        assert find_sent(folder, "key") is None


def test_a_sender_that_is_killed_at_any_moment_sends_nothing_twice(lab: Lab, relay: Relay, see: See, client):
    run = lab.run("study", "--arg", "data=data.txt", INTERMODAL_TRACKING="off")["run"]
    lab.uri = relay.uri
    for requests in (3, 4, 6, 9, 13):
        relay.accepted, relay.pass_for = 0, requests
        sender = lab.start("tracking", "sync", run)
        wait_until(lambda limit=requests, child=sender: relay.accepted > limit or child.poll() is not None)
        sender.kill()
        sender.wait()
        if requests == 3:
            assert set(see(run).statuses) < set(WHOLE)
    relay.pass_for = None
    lab.sync()
    assert see(run).statuses == WHOLE
    curve = client.get_metric_history(see(run).runs["/train@1"].info.run_id, "loss")
    assert len(curve) == 5
    before = relay.accepted
    assert "has all runs" in lab.do("tracking", "sync")
    assert relay.accepted == before  # what the server has is not even asked for


def test_a_run_that_the_server_does_not_take_keeps_no_other_waiting(lab: Lab, see: See, client):
    go = lab.state / "go"
    go.touch()
    ran = [lab.run(name, "--arg", f"go={go}", INTERMODAL_TRACKING="off")["run"] for name in ("doomed", "patient")]
    experiment = client.create_experiment("doomed")
    client.delete_experiment(experiment)
    said = lab.do("tracking", "sync", code=3)
    assert f"{ran[0]} not sent: " in said and f"{ran[1]} sent" in said
    assert (see(ran[0]).runs, see(ran[1]).statuses[""]) == ({}, "FINISHED")
    client.restore_experiment(experiment)
    lab.sync()
    assert see(ran[0]).statuses == dict.fromkeys(("", "/wait@1", "/wait@1#0"), "FINISHED")
    assert f"tracked {lab.uri}/#/experiments/{experiment}/runs/" in lab.do("show", ran[0])


def test_the_local_server_is_started_once_and_what_it_missed_is_sent_later(lab: Lab):
    from mlflow import MlflowClient

    lab.uri = ""
    go = lab.state / "go"
    go.touch()
    folder = lab.state / "tracking"
    words = ("--arg", f"go={go}", "--no-cache")
    born = _start_and_kill_the_starter(folder)
    try:
        first = lab.run("patient", *words)
        lab.sync()
        server = find_server(folder)
        assert server is not None and server.answers() and server.pid == born
        again = lab.run("patient", *words)
        lab.sync()
        assert find_server(folder) == server
        go.unlink()
        child = lab.start("run", str(lab.project / "patient.yaml"), "--backend", "process", *words)
        client = MlflowClient(server.uri)
        count = lambda status: len(client.search_runs(_all(client), f"attributes.status = '{status}'"))  # noqa: E731
        wait_until(lambda: count("RUNNING") == 3)
        assert server.uri in lab.do("tracking", "down")
        go.touch()
        assert child.wait(60) == 0
        assert "no tracking server" in lab.do("tracking", "status")
        lab.sync()
        assert find_server(folder) != server and server.uri in lab.do("tracking", "status")
        assert (count("FINISHED"), count("RUNNING")) == (9, 0)
        runs = {item.data.tags["intermodal.run"] for item in client.search_runs(_all(client))}
        assert len(runs) == 3 and {first["run"], again["run"]} < runs
    finally:
        lab.do("tracking", "down")


def _start_and_kill_the_starter(folder: Path) -> int:
    """Start a server, kill the starter as soon as it has a child, and return that child, which goes on."""
    code = f"from pathlib import Path; from intermodal.tracking.server import ensure_server; ensure_server(Path({str(folder)!r}))"
    starter = subprocess.Popen([sys.executable, "-c", code])
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
    while not (found := children.read_text().split()):
        assert starter.poll() is None
    starter.kill()
    starter.wait()
    return int(found[0])


def _all(client) -> list[str]:
    return [item.experiment_id for item in client.search_experiments()]
