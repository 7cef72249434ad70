"""`intermodal logs TASK [RUN]`: print what a task wrote."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from intermodal.cli.records import find_run, open_database
from intermodal.errors import BadInput

HELP = "print the log of a task"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", help="a task's path, or its last part")
    parser.add_argument(
        "run_id", nargs="?", metavar="RUN", help="a run, or a unique part of its name (default: the newest)"
    )


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    found = find_run(database, args.run_id)
    rows = database.query("SELECT path, number, log FROM attempts WHERE run=? ORDER BY path, number", (found["id"],))
    matching = [row for row in rows if row["path"] == args.task] or [
        row for row in rows if row["path"].split("/")[-1] == args.task
    ]
    if not matching:
        hint = ", ".join(sorted({row["path"] for row in rows})) or "it started none"
        raise BadInput(f"run {found['id']} has no attempt of {args.task!r}", hint=f"tasks that started: {hint}")
    for row in matching:
        if len(matching) > 1:
            print(f"--- {row['path']} attempt {row['number']}", flush=True)
        log = Path(row["log"])
        if not log.is_file():
            raise BadInput(f"{log}: the log is gone")
        with log.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer)
        sys.stdout.flush()
    return 0
