"""`intermodal completion SHELL`: a script that completes verbs, options and files in bash or zsh."""

from __future__ import annotations

import argparse

HELP = "print a completion script for bash or zsh"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="e.g. `source <(intermodal completion bash)`")


def run(args: argparse.Namespace) -> int:
    import shtab

    from intermodal.cli.main import VERBS, make_parser

    print(shtab.complete(make_parser(VERBS), args.shell))
    return 0
