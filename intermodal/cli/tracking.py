"""`intermodal tracking up|down|status|sync [RUN ...]`: the MLflow server of the state folder, and what it has of the runs.

Exit codes: 0 done; 3 no server, it did not answer, or did not take a run (`sync` then goes on another time where it stopped).
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
from pathlib import Path

from intermodal.cli.records import find_run, open_database
from intermodal.engine.layout import StateFolder
from intermodal.errors import BadInput, EnvironmentProblem, ExitCode
from intermodal.settings import find_project, load_settings
from intermodal.tracking.outbox import Outbox
from intermodal.tracking.rest import Client, Rejected, Unreachable
from intermodal.tracking.server import ensure_server, stop_server
from intermodal.tracking.sync import Synced, sync, unsent
from intermodal.tracking.target import FOLDER, Target, target, without_secrets
from intermodal.tracking.tree import is_tracked

HELP = "the MLflow server of this state folder, and what it has of the runs"
_TIMEOUT = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("up", "down", "status", "sync"),
        help="up: start the local server; down: stop it; status: where it is; sync: send what it lacks",
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="sync: only these (default: all that lack something)")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="up: port on 127.0.0.1 (default: as before)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    if args.runs and args.action != "sync":
        raise BadInput(f"{args.action}: takes no run")
    folder = args.state.absolute() / FOLDER
    if args.action == "up":
        StateFolder.at(args.state)
        _print(args, {"uri": ensure_server(folder, port=args.port).uri}, "tracking server at {uri}")
    elif args.action == "down":
        server = stop_server(folder)
        _print(args, {"stopped": server.uri if server else None}, "stopped {stopped}" if server else "there was none")
    elif args.action == "status":
        _status(args)
    else:
        return _sync(args)
    return 0


def _target(state: Path) -> Target:
    return target(load_settings(find_project(Path.cwd())), os.environ, state)


def _print(args: argparse.Namespace, document: dict[str, object], line: str) -> None:
    print(json.dumps(document) if args.json else line.format(**document))


def _status(args: argparse.Namespace) -> None:
    where = _target(args.state)
    uri = where.known()
    document: dict[str, object] = {"uri": uri, "answers": False, "unsent": None}
    if uri is not None:
        try:
            Client(where.uri or uri, os.environ, 5.0).check()
            document["answers"] = True
        except (Unreachable, Rejected) as error:
            document["error"] = str(error)
        if (args.state / "intermodal.db").is_file():
            database = open_database(args.state)
            try:
                with Outbox(where.folder, uri) as outbox:
                    document["unsent"] = sum(1 for _ in unsent(database, outbox))
            finally:
                database.close()
    if uri is None:
        _print(args, document, "no tracking server: intermodal tracking up")
        return
    word = "answers" if document["answers"] else f"does not answer ({document['error']})".replace("{", "{{")
    lacking = f", lacks {document['unsent']} runs" if document["unsent"] else ""
    _print(args, document, f"{uri} {word}{lacking}")


def _sync(args: argparse.Namespace) -> int:
    where, whole = _target(args.state), True
    database = open_database(args.state)
    try:
        chosen = [find_run(database, name) for name in args.runs]
        for row in chosen:
            if not is_tracked(row):
                raise BadInput(f"run {row['id']}: is a replay, or went on elsewhere; it is not tracked")
        uri = where.open()
        client = Client(uri, os.environ, _TIMEOUT)
        with Outbox(where.folder, without_secrets(uri)) as outbox:
            runs = [row["id"] for row in chosen or unsent(database, outbox)]
            for one in sync(database, StateFolder(args.state.absolute()), client, outbox, runs):
                _say(args, one)
                whole = whole and not one.problem
        if not runs and not args.json:
            print(f"{client.uri} has all runs")
        return ExitCode.OK if whole else ExitCode.ENVIRONMENT
    except (Unreachable, Rejected) as error:
        raise EnvironmentProblem(f"tracking server: {error}", hint="what was sent stays sent; try again") from error
    except (OSError, sqlite3.Error) as error:
        raise EnvironmentProblem(f"{where.folder}: {error}") from error
    finally:
        database.close()


def _say(args: argparse.Namespace, one: Synced) -> None:
    document: dict[str, object] = {"run": one.run, "problem": one.problem, "refused": list(one.refused)}
    word = f"not sent: {one.problem}" if one.problem else "sent"
    print(json.dumps(document) if args.json else f"{one.run} {word}")
    for line in one.refused if not args.json else ():
        print(f"  refused: {line}")
