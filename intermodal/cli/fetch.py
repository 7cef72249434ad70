"""`intermodal fetch [RUN]`: bring what a run gave elsewhere into the store here, so that it is as if it had run here."""

from __future__ import annotations

import argparse
import json

from intermodal.api import Quiet
from intermodal.backends.remote.fetching import fetch
from intermodal.backends.remote.following import Follower
from intermodal.cli.following import note, opened
from intermodal.cli.text import memory
from intermodal.engine.states import State
from intermodal.report import REPORT, report_end

HELP = "bring the outputs and logs of a run that went on elsewhere"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id", nargs="?", metavar="RUN", help="a run, or a unique part of its name (default: the newest)"
    )
    parser.add_argument("--json", action="store_true", help="print what was brought as JSON")


def run(args: argparse.Namespace) -> int:
    with opened(args.state, args.run_id) as (run, remote):
        follower = Follower(run, remote, Quiet())
        if State(run.row["state"]).final:
            follower.bring_logs()
        else:
            follower.once()
        brought = fetch(run, remote, note)
        state = run.database.query("SELECT state FROM runs WHERE id=?", (run.id,))[0]["state"]
        problem = report_end(run.state, run.id, run.pipeline)
    if problem:
        note(problem)
    if args.json:
        print(json.dumps({"run": run.id, "state": state, **vars(brought)}, indent=2, sort_keys=True))
        return 0
    print(f"run {run.id} {state.lower()}: {brought.artifacts} artifacts, {memory(brought.bytes)}, brought here")
    for path in sorted((run.folder / "outputs").glob("*")) if (run.folder / "outputs").is_dir() else ():
        print(f"  {path.name}: {path}")
    print(f"  all of it: {run.folder / REPORT}")
    return 0
