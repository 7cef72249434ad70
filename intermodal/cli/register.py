"""`intermodal register RUN`: register a run's champion as a version of an MLflow model."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from intermodal.cli.records import find_run, open_database
from intermodal.engine.layout import StateFolder
from intermodal.tracking.find import open_index
from intermodal.tracking.registry import register_run

HELP = "register a run's champion as a version of an MLflow model, with lineage and model card"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 registered, or registered before · 1 the server has not got the run · 2 bad input · 3 server or package"
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
        found = find_run(database, args.run_id)["id"]
        with open_index(state_folder=args.state) as place:
            done = register_run(database, StateFolder.at(args.state), place, found, name=args.name, output=args.output)
    finally:
        database.close()
    if args.json:
        print(json.dumps({**asdict(done), "uri": done.uri}))
    else:
        print(
            f"{done.uri}  {'registered' if done.new else 'was registered before'}  sha256:{done.digest[:16]}  {done.run}"
        )
    return 0
