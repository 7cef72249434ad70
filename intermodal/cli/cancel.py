"""`intermodal cancel [RUN]`: stop a run, wherever it goes on; of one on this machine, as Ctrl-C in its terminal would."""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from intermodal.backends.remote.contract import PLACES
from intermodal.cli.following import opened
from intermodal.cli.records import find_run, open_database
from intermodal.engine.layout import StateFolder
from intermodal.engine.resume import holder
from intermodal.engine.states import State
from intermodal.errors import BadInput

HELP = "stop a run that goes on, here or elsewhere"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id", nargs="?", metavar="RUN", help="a run, or a unique part of its name (default: the newest)"
    )


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    try:
        found = find_run(database, args.run_id)
    finally:
        database.close()
    if State(found["state"]).final:
        raise BadInput(f"run {found['id']} has ended: {found['state'].lower()}")
    if found["backend"] in PLACES:
        with opened(args.state, found["id"], alone=False) as (_, remote):
            remote.cancel()
        print(f"asked {found['backend']} to stop run {found['id']}; see it end: intermodal resume {found['id']}")
        return 0
    process = holder(StateFolder(args.state.absolute()).run(found["id"]))
    if process is None:
        raise BadInput(f"nothing runs {found['id']} any more", hint=f"intermodal resume {found['id']}")
    if not _is_command(process):
        raise BadInput(f"run {found['id']} goes on in process {process}, a program of its own", hint="stop it there")
    os.kill(process, signal.SIGTERM)
    print(f"asked process {process} to stop run {found['id']}")
    return 0


def _is_command(process: int) -> bool:
    """Whether a process is this command, which stops its run on SIGTERM; another program would just die."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(os.fsdecode(word)).name == "intermodal" for word in words[:3] if word)
