"""`intermodal report [RUN]`: write a run's report, one HTML file that holds everything and loads nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from intermodal.cli.records import find_run, open_database
from intermodal.engine.layout import StateFolder
from intermodal.errors import EnvironmentProblem

HELP = "write the report of a run, one HTML file"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run_id", nargs="?", metavar="RUN", help="a run, or a unique part of its name (default: the newest)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where to write it, - for stdout (default: report.html in the run's folder)",
    )


def run(args: argparse.Namespace) -> int:
    from intermodal.report import render, write_report

    database = open_database(args.state)
    state = StateFolder(args.state.absolute())
    try:
        found = find_run(database, args.run_id)["id"]
        if args.output is None:
            print(write_report(database, state, found))
            return 0
        page = render(database, state, found)
        if args.output == "-":
            sys.stdout.buffer.write(page.encode())
        else:
            Path(args.output).write_text(page, encoding="utf-8")
            print(args.output)
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename or args.output}: {error.strerror}") from error
    finally:
        database.close()
    return 0
