"""`intermodal runs`: list the runs, newest first."""

from __future__ import annotations

import argparse
import json

from intermodal.cli.records import local_time, open_database, shown_state
from intermodal.cli.text import duration

HELP = "list the runs of this state folder"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    for row in database.query("SELECT id, pipeline, backend, state, started, ended FROM runs ORDER BY started DESC"):
        state = shown_state(args.state, row)
        if args.json:
            print(json.dumps({**dict(row), "state": state}, sort_keys=True))
            continue
        took = duration(row["ended"] - row["started"]) if row["ended"] else ""
        print(f"{row['id']:<50} {state:<11} {local_time(row['started'])} {took:>8}  {row['backend']}")
    return 0
