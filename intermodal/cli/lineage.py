"""`intermodal lineage DIGEST|RUN`: what an artifact was made from, and what was made of it."""

from __future__ import annotations

import argparse
import json
import re

from intermodal.tracking.find import open_index
from intermodal.tracking.find_lineage import as_json, lineage, lines, outputs_of

HELP = "say what an artifact was made from, and what was made of it, in all runs of the tracking server"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "exit codes: 0 done · 2 no such artifact or run · 3 the tracking server does not answer"
    parser.add_argument(
        "what", metavar="DIGEST|RUN", help="an artifact's sha256 or its start, or a run whose outputs are meant"
    )
    parser.add_argument("--offline", action="store_true", help="ask the local index alone")
    parser.add_argument("--json", action="store_true", help="print both trees as JSON")


def run(args: argparse.Namespace) -> int:
    with open_index(state_folder=args.state) as place:
        if not args.offline:
            place.bring_in_step()
        is_digest = re.fullmatch(r"sha256:[0-9a-f]+|[0-9a-f]{64}", args.what) or (
            re.fullmatch(r"[0-9a-f]{8,63}", args.what) and not place.index.select("id = ?", [args.what])
        )
        digests = [args.what] if is_digest else list(outputs_of(place.index, args.what))
        trees = [lineage(place.index, digest) for digest in digests]
    if args.json:
        print(json.dumps([{"made_by": as_json(up), "read_by": as_json(down)} for up, down in trees], indent=2))
        return 0
    for up, down in trees:
        print("\n".join(lines(up, "made by")))
        print("\n".join([*lines(down, "read by")][1:]) or "  read by nothing")
    return 0
