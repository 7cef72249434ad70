"""`intermodal backup PLACE [FOLDER ...]`: keep state volumes (studies), or folders, at a mounted folder or an fsspec address."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from intermodal.engine.replace import mend
from intermodal.engine.resume import StateUse
from intermodal.errors import BadInput

HELP = "keep state volumes (studies) at another place"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="PLACE", help="a folder (a mounted drive), or an address: s3://..., gs://...")
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="what to keep (default: every state volume)"
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="only list the snapshots that are there, each judged by the sizes of its files",
    )
    parser.add_argument("--verify", action="store_true", help="with --list: judge by reading all content")
    parser.add_argument(
        "--wait", type=float, metavar="SECONDS", help="for a database that another process holds locked (default: 60)"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(args: argparse.Namespace) -> int:
    from intermodal.backup.places import open_place
    from intermodal.backup.sending import WAIT, back_up

    if args.verify and not args.list:
        raise BadInput("--verify goes with --list", hint="a backup reads back all that it names in any case")
    if args.list:
        return _list(args)
    # No restore may replace a volume while it is read.
    use = StateUse(args.state) if (args.state / "volumes").is_dir() else None
    try:
        sent = back_up(
            _folders(args),
            open_place(args.place, make=True),
            lambda text: print(text, file=sys.stderr),
            wait=WAIT if args.wait is None else args.wait,
        )
    finally:
        if use is not None:
            use.release()
    if args.json:
        print(json.dumps(asdict(sent)))
    else:
        print(
            f"{sent.snapshot}: {sent.files} files, {sent.bytes} bytes; {sent.new_files} were new, {sent.new_bytes} bytes"
        )
    return 0


def _list(args: argparse.Namespace) -> int:
    from intermodal.backup.places import open_place
    from intermodal.backup.snapshot import check_snapshots

    place = open_place(args.place, make=False)
    found = check_snapshots(place, content=args.verify)
    judged_by = "content" if args.verify else "sizes"
    if args.json:
        print(json.dumps([{"snapshot": name, "problem": problem, "judged_by": judged_by} for name, problem in found]))
        return 0
    if not found:
        print(f"note: {place.address} holds no snapshot", file=sys.stderr)
    for name, problem in found:
        print(f"{name}: {problem or f'whole, by its {judged_by}'}")
    return 0


def _folders(args: argparse.Namespace) -> dict[str, Path]:
    from intermodal.backup.places import explained

    volumes = args.state / "volumes"
    with explained(volumes, "put right"):
        mend(volumes)
    given = args.folders or (sorted(filter(Path.is_dir, volumes.glob("[!.]*"))) if volumes.is_dir() else [])
    if not given:
        raise BadInput(f"{volumes}: there is no state volume", hint="name the folders to keep")
    folders = {(path if path.name not in ("", "..") else path.resolve()).name: path for path in given}
    if len(folders) < len(given):
        raise BadInput("two of the folders have one name")
    return folders
