"""`intermodal engine up`: make sure that a container engine answers."""

from __future__ import annotations

import argparse
import json
import sys

HELP = "make sure that a container engine answers"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("up",), help="up: use the engine that answers; else install and start one")
    parser.add_argument("--json", action="store_true", help="print its version as JSON")


def run(args: argparse.Namespace) -> int:
    from intermodal.backends.docker.engine import ensure_engine

    version = ensure_engine(lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps({"engine": "docker", "version": version}) if args.json else f"Docker engine {version} answers")
    return 0
