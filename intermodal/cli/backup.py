"""`intermodal backup PLACE [FOLDER ...]`: keep state volumes (studies), or folders, at a mounted folder or an fsspec address."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from intermodal.errors import BadInput

HELP = "keep state volumes (studies) at another place"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("place", metavar="PLACE", help="a folder (a mounted drive), or an address: s3://..., gs://...")
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="what to keep (default: every state volume)"
    )
    parser.add_argument("--list", action="store_true", help="only list the snapshots that are there")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def run(args: argparse.Namespace) -> int:
    from intermodal.backup.places import open_place
    from intermodal.backup.snapshot import back_up, snapshots

    if args.list:
        found = snapshots(open_place(args.place, make=False))
        if args.json:
            print(json.dumps([{"snapshot": name, "problem": problem} for name, problem in found]))
            return 0
        for name, problem in found:
            print(f"{name}: {problem or 'whole'}")
        return 0
    sent = back_up(_folders(args), open_place(args.place, make=True), lambda text: print(text, file=sys.stderr))
    if args.json:
        print(json.dumps(asdict(sent)))
    else:
        print(
            f"{sent.snapshot}: {sent.files} files, {sent.bytes} bytes; {sent.new_files} were new, {sent.new_bytes} bytes"
        )
    return 0


def _folders(args: argparse.Namespace) -> dict[str, Path]:
    volumes = args.state / "volumes"
    given = args.folders or (sorted(path for path in volumes.iterdir() if path.is_dir()) if volumes.is_dir() else [])
    if not given:
        raise BadInput(f"{volumes}: there is no state volume", hint="name the folders to keep")
    folders = {path.absolute().name: path for path in given}
    if len(folders) < len(given):
        raise BadInput("two of the folders have one name")
    return folders
