"""`intermodal submit`: send a pipeline to AzureML or Kubeflow and, if it is to be waited for, follow it.

Exit 0 once it is sent; with --wait only if every task that ran is green. Ctrl-C leaves the run alone: it goes on there.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

from intermodal.backends.azureml.cloud import EMULATOR
from intermodal.backends.remote.contract import AZUREML, KUBEFLOW, Remote
from intermodal.backends.remote.opened import OpenRun
from intermodal.cli.compile import add_job_arguments
from intermodal.cli.following import follow, note
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder

HELP = "send a pipeline to AzureML or Kubeflow, and follow it"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, help="a Python file with a @dsl.pipeline, or compiled IR YAML")
    parser.add_argument("--pipeline", dest="name", metavar="NAME", help="which pipeline of the file, if it has several")
    parser.add_argument("--backend", choices=(AZUREML, KUBEFLOW), default=AZUREML, help="where to (default: azureml)")
    add_job_arguments(parser)
    parser.add_argument(
        "--emulator",
        type=Path,
        default=os.environ.get(EMULATOR) or None,
        metavar="DIR",
        help="send it to the emulator that runs on this folder (default: $INTERMODAL_EMULATOR)",
    )
    parser.add_argument("--wait", action="store_true", help="follow the run to its end: states and logs of each task")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")


def run(args: argparse.Namespace) -> int:
    state = StateFolder.at(args.state)
    database = Database(state.database)
    try:
        return (_kubeflow if args.backend == KUBEFLOW else _azureml)(args, state, database)
    finally:
        database.close()


def _azureml(args: argparse.Namespace, state: StateFolder, database: Database) -> int:
    from intermodal.backends.azureml.cloud import check_settings, connect, emulated
    from intermodal.backends.azureml.remote import AzureMLRemote
    from intermodal.backends.azureml.requests import compile_wanted, read_wanted
    from intermodal.backends.azureml.submission import open_service, submit

    wanted = read_wanted(args, os.environ)
    if args.emulator is not None:
        wanted = replace(wanted, settings=emulated(wanted.settings, args.emulator))
    check_settings(wanted.settings)
    cloud, credential = connect(os.environ, args.emulator)
    with open_service(wanted.settings, cloud, credential) as service:
        sent = submit(
            wanted,
            lambda given: compile_wanted(given, args, os.environ),
            service,
            state,
            database,
            lambda run_id: note(f"run {run_id}"),
            args.emulator,
        )
        with sent:
            return _sent(args, sent, AzureMLRemote(sent, service), f"workspace {service.workspace.name}")


def _kubeflow(args: argparse.Namespace, state: StateFolder, database: Database) -> int:
    from intermodal.backends.azureml.requests import read_image_lock
    from intermodal.backends.kubeflow.submission import submit
    from intermodal.sources import load_source, read_values

    source, values = load_source(args.pipeline, args.name), read_values(args.config, args.arg)
    images = read_image_lock(source.project)
    sent, remote = submit(source, values, images, state, database, os.environ, note, from_file=args.config is not None)
    with sent:
        return _sent(args, sent, remote, str(sent.place["host"]))


def _sent(args: argparse.Namespace, sent: OpenRun, remote: Remote, where: str) -> int:
    page = remote.page()
    if args.wait:
        note(f"its page: {page}")
        return follow(sent, remote, as_json=args.json)
    if args.json:
        print(json.dumps({"run": sent.id, "place": where, "page": page}, indent=2, sort_keys=True))
        return 0
    print(f"run {sent.id} is sent to {where}")
    print(f"  see it: {page}")
    print(f"  follow it: intermodal resume {sent.id}")
    return 0
