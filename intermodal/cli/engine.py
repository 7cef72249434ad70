"""`intermodal engine up`: make sure that a container engine answers."""

from __future__ import annotations

import argparse
import sys

HELP = "make sure that a container engine answers"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("up",), help="up: use the engine that answers; else install and start one")


def run(args: argparse.Namespace) -> int:
    from intermodal.backends.docker.engine import ensure_engine

    version = ensure_engine(lambda line: print(line, file=sys.stderr, flush=True))
    print(f"Docker engine {version} answers")
    return 0
