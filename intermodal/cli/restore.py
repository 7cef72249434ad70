"""`intermodal restore PLACE [NAME ...]`: bring back what `backup` kept, from the newest snapshot that is whole."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from intermodal.engine.layout import StateFolder
from intermodal.engine.resume import StateUse

HELP = "bring state volumes (studies) back from a backup"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="PLACE", help="where `backup` kept them")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which folders (default: all of the snapshot)")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="where to (default: the state volumes)")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--json", action="store_true", help="print what is where as JSON")


def run(args: argparse.Namespace) -> int:
    from intermodal.backup.places import open_place
    from intermodal.backup.restoring import restore

    place = open_place(args.place, make=False)
    state = StateFolder.at(args.state)
    into = args.into or state.root / "volumes"
    use = StateUse(state.root, alone=True) if args.into is None else None  # no step may work in what is replaced
    try:
        made = restore(
            place, into.joinpath, args.names, lambda text: print(f"note: {text}", file=sys.stderr), force=args.force
        )
    finally:
        if use is not None:
            use.release()
    if args.json:
        print(json.dumps({name: str(path) for name, path in made.items()}))
    else:
        for name, path in made.items():
            print(f"{name}: {path}")
    return 0
