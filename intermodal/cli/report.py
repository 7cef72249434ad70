"""`intermodal report [RUN]`: write a run's report, one HTML file that holds everything and loads nothing."""

from __future__ import annotations

import argparse
import json
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
    parser.add_argument("--json", action="store_true", help="print where it is as JSON")


def run(args: argparse.Namespace) -> int:
    from intermodal.report import render, write_report

    database = open_database(args.state)
    state = StateFolder(args.state.absolute())
    try:
        found = find_run(database, args.run_id)["id"]
        if args.output is None:
            _say(found, str(write_report(database, state, found)), args.json)
            return 0
        page = render(database, state, found)
        if args.output == "-":
            sys.stdout.buffer.write(page.encode())
        else:
            Path(args.output).write_text(page, encoding="utf-8")
            _say(found, args.output, args.json)
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename or args.output}: {error.strerror}") from error
    finally:
        database.close()
    return 0


def _say(run_id: str, path: str, as_json: bool) -> None:
    print(json.dumps({"run": run_id, "report": path}, ensure_ascii=False) if as_json else path)
