"""`intermodal build`: build the step images, hermetically; unchanged inputs rebuild nothing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from intermodal.errors import BadInput
from intermodal.settings import find_project

HELP = "build the step images"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="IMAGE", help="which images (default: all)")
    parser.add_argument("--json", action="store_true", help="print what was built as JSON")


def run(args: argparse.Namespace) -> int:
    from intermodal.backends.docker.client import connect
    from intermodal.build.images import build_images

    project = find_project(Path.cwd())
    if project is None or not (project / "images").is_dir():
        raise BadInput(f"{Path.cwd()}: no project with an images/ folder here or above")
    state = args.state.absolute()
    (state / "build").mkdir(parents=True, exist_ok=True)
    client = connect()
    try:
        built = build_images(project, state, args.names, client, lambda text: print(text, file=sys.stderr, flush=True))
    finally:
        client.close()
    if args.json:
        print(json.dumps([asdict(image) for image in built], indent=2))
        return 0
    for image in built:
        took = f"built in {image.seconds:.0f} s" if image.seconds else "unchanged"
        print(f"{image.reference:<28} {image.size / 1e6:7.0f} MB  {took}")
    return 0
