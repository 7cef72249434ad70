"""`intermodal show [RUN]`: a run's tasks, failures, configuration and outputs."""

from __future__ import annotations

import argparse
import json
import sqlite3
from pathlib import Path

from intermodal.backends.remote.contract import PLACES
from intermodal.cli.records import INTERRUPTED, find_run, local_time, open_database, shown_state
from intermodal.cli.text import duration
from intermodal.engine.layout import StateFolder
from intermodal.engine.states import State
from intermodal.junit import write_junit
from intermodal.results import read_run
from intermodal.tracking.following import tracked_at

HELP = "show a run: its tasks, failures and outputs"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id", nargs="?", metavar="RUN", help="a run, or a unique part of its name (default: the newest)"
    )
    parser.add_argument("--json", action="store_true", help="everything on record, as JSON")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit report for CI, and print nothing")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    found = find_run(database, args.run_id)
    if args.junit is not None:
        write_junit(read_run(database, StateFolder.at(args.state), found["id"]), args.junit)
        return 0
    tasks = database.query("SELECT * FROM tasks WHERE run=? ORDER BY started, path", (found["id"],))
    attempts = database.query("SELECT * FROM attempts WHERE run=? ORDER BY started", (found["id"],))
    state = shown_state(args.state, found)
    if args.json:
        _print_json(found, state, tasks, attempts)
        return 0
    print(f"{found['id']}  {state}  {local_time(found['started'])}  {found['backend']}")
    if state == INTERRUPTED:
        print(f"its process was killed; what it started may go on; go on with it: intermodal resume {found['id']}")
    if found["backend"] in PLACES and not State(state).final:
        print(f"it goes on there, and this is what was seen last; follow it: intermodal resume {found['id']}")
    print(f"configuration sha256:{found['configuration_digest'][:16]}  pipeline sha256:{found['pipeline_digest'][:16]}")
    if tracked := tracked_at(StateFolder(args.state.absolute()), found["id"]):
        print(f"tracked {tracked}")
    logs = {row["path"]: row["log"] for row in attempts}
    relaxed = {row["path"]: _relaxed(row) for row in attempts}
    for task in tasks:
        took = duration(task["ended"] - task["started"]) if task["ended"] else ""
        origin = f"  from {task['cached_from']}" if task["cached_from"] else ""
        print(f"  {_task_state(task, state):<11} {took:>8}  {task['path']}{origin}")
        if relaxed.get(task["path"]):
            print(f"{'':23} relaxed: {relaxed[task['path']]}")
        if task["failure"]:
            print(f"{'':23} {task['failure_class']}: {task['failure']}")
            if task["path"] in logs:
                print(f"{'':23} log: {logs[task['path']]}")
    return 0


def _relaxed(attempt: sqlite3.Row) -> str:
    """Return what of the container contract the attempt was spared, empty if nothing."""
    launch = json.loads(attempt["launch"] or "{}")
    network = launch.get("network", "none")
    return ", ".join([*launch.get("relax", ()), *([] if network == "none" else [f"network {network}"])])


def _task_state(task: sqlite3.Row, run_state: str) -> str:
    """Return a task's state as it is now: nothing is running in a run that is not."""
    return INTERRUPTED if task["state"] == State.RUNNING and run_state != State.RUNNING else str(task["state"])


def _print_json(found: sqlite3.Row, state: str, tasks: list[sqlite3.Row], attempts: list[sqlite3.Row]) -> None:
    document = {**_decoded(found), "state": state}
    document["tasks"] = [{**_decoded(row), "state": _task_state(row, state)} for row in tasks]
    document["attempts"] = [_decoded(row) for row in attempts]
    print(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))


def _decoded(row: sqlite3.Row) -> dict[str, object]:
    documents = ("arguments", "configuration", "inputs", "outputs")
    return {key: json.loads(row[key]) if key in documents and row[key] else row[key] for key in row.keys()}  # noqa: SIM118
