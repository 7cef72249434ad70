"""`intermodal resume [RUN]`: go on with a run. Green tasks stay, living steps are adopted, finished ones harvested.

Exit codes as `run`. The run's own options and settings hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys

from intermodal.backends.remote.contract import PLACES
from intermodal.cli.backends import chosen_backend
from intermodal.cli.executing import execute, exit_code, print_result
from intermodal.cli.progress import progress
from intermodal.cli.records import find_run, open_database
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.resume import REPLAY_OF, read_request
from intermodal.engine.session import Session
from intermodal.engine.states import State
from intermodal.errors import BadInput
from intermodal.tracking.following import Following, tracker_of

HELP = "go on with a run that was stopped, killed, or failed"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id",
        nargs="?",
        metavar="RUN",
        help="a run, or a unique part of its name (default: the newest that is not green)",
    )
    parser.add_argument("--plain", action="store_true", help="plain lines, no live display")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    try:
        found = find_run(database, args.run_id) if args.run_id else _newest_unfinished(database)
        if found["backend"] in PLACES:
            return _follow(args, found)
        kept = read_request(database, StateFolder.at(args.state), found["id"])
    finally:
        database.close()
    if State(found["state"]).green:
        print(f"run {found['id']} has {found['state'].lower()} already")
        return 0
    backend = chosen_backend(found["backend"], kept.project, args.state, kept.settings)
    tracker = tracker_of(kept.settings, args.state, os.environ)
    with (
        Session(args.state, backend, kept.settings, kept.options, tracker=tracker) as session,
        progress(live=sys.stderr.isatty() and not args.plain) as observer,
    ):
        runner = session.resume(found["id"], observer)
        tracking = Following(kept.settings, session.state, runner.run_id, os.environ)
        observer.begin(runner.run_id, [*session.notes(kept.pipeline), *tracking.notes])
        observer.watch(runner.graph, runner.usage)
        result = execute(session, runner)
        tracked = tracking.end()
    print_result(result, tracked, as_json=args.json)
    return exit_code(result.state)


def _follow(args: argparse.Namespace, found: sqlite3.Row) -> int:
    """Go on with a run elsewhere: send it if that did not come to its end, then follow it."""
    from intermodal.cli.following import follow, opened

    if State(found["state"]).final:
        print(f"run {found['id']} has {_PAST.get(found['state'], 'ended')} already; submit the pipeline anew")
        return exit_code(State(found["state"]))
    with opened(args.state, found["id"]) as (run, remote):
        remote.submit()
        return follow(run, remote, as_json=args.json)


_PAST = {"SUCCEEDED": "succeeded", "CACHED": "succeeded", "FAILED": "failed", "CANCELLED": "been cancelled"}


def _newest_unfinished(database: Database) -> sqlite3.Row:
    for row in database.query("SELECT * FROM runs ORDER BY started DESC"):
        if not State(row["state"]).green and REPLAY_OF not in json.loads(row["request"] or "{}"):
            return row
    raise BadInput("every run here is green", hint="`intermodal runs` lists them")
