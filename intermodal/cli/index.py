"""`intermodal index`: bring the local index of MLflow runs in step with its server, or make it anew."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from intermodal.cli.text import duration
from intermodal.tracking.find import open_index

HELP = "bring the local index of MLflow runs in step with the tracking server (--rebuild: read all of it again)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 done (--status: in step) · 1 --status: stale, or never made · 3 the tracking server does not answer"
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rebuild", action="store_true", help="read everything again; a damaged index is made anew")
    what.add_argument(
        "--status", action="store_true", help="change nothing: say how old the index is, and how much it lacks"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    with open_index(state_folder=args.state, mend=args.rebuild) as place:
        if not args.status:
            done = place.bring_in_step(all_of_it=args.rebuild)
            if args.json:
                print(json.dumps({**asdict(done), "server": place.uri}))
            else:
                what = f"{done.new} new, {done.changed} changed, {done.gone} gone"
                print(f"{done.runs} runs of {place.uri}: {what}, in {duration(done.seconds)}")
            return 0
        status = place.status()
    if args.json:
        print(json.dumps(asdict(status)))
    elif status.age is None:
        print("there is no index yet")
    else:
        lacks = (
            "the server does not answer" if status.behind is None else f"lacks {status.behind} runs that started since"
        )
        print(f"{status.runs} runs, {duration(status.age)} old, {lacks}")
    return 0 if status.behind == 0 else 1
