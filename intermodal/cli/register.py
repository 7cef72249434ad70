"""`intermodal register RUN`: register a run's champion as a version of an MLflow model."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from intermodal.cli.records import find_run, open_database
from intermodal.engine.layout import StateFolder
from intermodal.errors import IntermodalError, one_line
from intermodal.results import read_run
from intermodal.tracking.find import open_index
from intermodal.tracking.registry import Registered, register_run

HELP = "register a run's champion as a version of an MLflow model, with lineage and model card"
_SHORT = 5.0
"""Seconds that the end of a run waits for an answer of the tracking server; `register` waits longer."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 registered, or registered before · 2 bad input: no model, a run that failed · 3 server or package"
    parser.add_argument(
        "run_id", nargs="?", metavar="RUN", help="a run, or a unique part of its name (default: the newest)"
    )
    parser.add_argument("--name", metavar="NAME", help="of the registered model (default: the pipeline's)")
    parser.add_argument(
        "--output", default="champion", metavar="NAME", help="which output is the model (default: champion)"
    )
    parser.add_argument("--json", action="store_true", help="print the version as JSON")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    try:
        run_id = find_run(database, args.run_id)["id"]
        with open_index(state_folder=args.state) as place:
            done = register_run(database, StateFolder.at(args.state), place, run_id, name=args.name, output=args.output)
    finally:
        database.close()
    print(json.dumps({**asdict(done), "uri": done.uri}) if args.json else _line(done))
    return 0


def register_end(state: Path, run_id: str, name: str) -> None:
    """Register what a run that is over gave as `champion`, and say so on stderr; what goes wrong is said, and changes no run."""
    try:
        with closing(open_database(state)) as database:
            if "champion" not in read_run(database, StateFolder.at(state), run_id).outputs:
                return
            with open_index(state_folder=state, timeout=_SHORT) as place:
                print(_line(register_run(database, StateFolder.at(state), place, run_id, name=name)), file=sys.stderr)
    except (IntermodalError, OSError, sqlite3.Error) as error:
        why = one_line(str(error))
        print(f"note: not registered: {why}; later: intermodal register {run_id} --name {name}", file=sys.stderr)


def _line(done: Registered) -> str:
    return f"{done.uri}  {'registered' if done.new else 'was registered before'}  sha256:{done.digest[:16]}  {done.run}"
