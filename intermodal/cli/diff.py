"""`intermodal diff RUN RUN`: two runs task by task. Exit 0 whether they differ or not; nothing is started."""

from __future__ import annotations

import argparse
import json
from typing import Any

from intermodal.cli.records import find_run, open_database
from intermodal.cli.text import duration
from intermodal.engine.compare import RunDifference, TaskDifference, compare_runs
from intermodal.engine.layout import StateFolder

HELP = "compare two runs task by task: states, times, parameters, inputs, outputs, metrics, images"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="RUN", help="a run, or a unique part of its name")
    parser.add_argument("after", nargs="?", metavar="RUN", help="another one (default: the newest)")
    parser.add_argument("--all", action="store_true", help="also list the tasks that are the same")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    try:
        state = StateFolder(args.state.absolute())
        found = compare_runs(database, state, find_run(database, args.before), find_run(database, args.after))
    finally:
        database.close()
    if args.json:
        print(json.dumps(_document(found), indent=2, ensure_ascii=False))
    else:
        _print(found, everything=args.all)
    return 0


def _print(found: RunDifference, *, everything: bool) -> None:
    for sign, name, state, seconds in zip("-+", found.runs, found.states, found.seconds, strict=True):
        print(f"{sign} {name}  {state}  {_time(seconds)}".rstrip())
    for change in found.asked:
        print(f"  {change.text}")
    shown = [task for task in found.tasks if everything or not task.same]
    width = max((len(task.path) for task in shown), default=0)
    for task in shown:
        print(f"{_sign(task)} {task.path:<{width}}  {_sides(task)}".rstrip())
        for change in (*task.changes, *task.outputs):
            print(f"    {change.text}")
    same = sum(task.same for task in found.tasks)
    print(f"{len(found.tasks)} tasks, {same} the same")


def _sign(task: TaskDifference) -> str:
    if None in task.states:
        return "+" if task.states[0] is None else "-"
    return " " if task.same else "~"


def _sides(task: TaskDifference) -> str:
    sides = [
        f"{state} {_time(seconds)}".rstrip()
        for state, seconds in zip(task.states, task.seconds, strict=True)
        if state is not None
    ]
    return " -> ".join(sides)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _document(found: RunDifference) -> dict[str, Any]:
    return {
        "runs": [
            {"id": name, "state": state, "seconds": seconds}
            for name, state, seconds in zip(found.runs, found.states, found.seconds, strict=True)
        ],
        "changes": [change.as_json() for change in found.asked],
        "tasks": [
            {
                "path": task.path,
                "same": task.same,
                "states": list(task.states),
                "seconds": list(task.seconds),
                "changes": [change.as_json() for change in task.changes],
                "outputs": [change.as_json() for change in task.outputs],
            }
            for task in found.tasks
        ],
    }
