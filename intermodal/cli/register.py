"""`intermodal register RUN`: register a run's champion as a version of an MLflow model."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from intermodal.cli.records import find_run, open_database
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.errors import IntermodalError
from intermodal.results import read_run
from intermodal.tracking.find import open_index
from intermodal.tracking.registry import Registered, register_run

HELP = "register a run's champion as a version of an MLflow model, with lineage and model card"


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
        done = _register(database, args.state, find_run(database, args.run_id)["id"], args.name, args.output)
    finally:
        database.close()
    print(json.dumps({**asdict(done), "uri": done.uri}) if args.json else _line(done))
    return 0


def register_end(state: Path, run_id: str, name: str) -> None:
    """Register what a run that is over gave as `champion`, and say so on stderr; what goes wrong is said, and changes no run."""
    database = open_database(state)
    try:
        if "champion" in read_run(database, StateFolder.at(state), run_id).outputs:
            print(_line(_register(database, state, run_id, name, "champion")), file=sys.stderr)
    except IntermodalError as error:
        print(
            f"note: not registered: {error.message}; later: intermodal register {run_id} --name {name}", file=sys.stderr
        )
    finally:
        database.close()


def _register(database: Database, state: Path, run_id: str, name: str | None, output: str) -> Registered:
    with open_index(state_folder=state) as place:
        return register_run(database, StateFolder.at(state), place, run_id, name=name, output=output)


def _line(done: Registered) -> str:
    return f"{done.uri}  {'registered' if done.new else 'was registered before'}  sha256:{done.digest[:16]}  {done.run}"
