"""`intermodal why TASK`: why a task ran, or was cached, skipped or failed. Read from the record; nothing is started."""

from __future__ import annotations

import argparse
import json
from typing import Any

from intermodal.cli.records import open_database
from intermodal.cli.targets import WORDS_HELP, Target, find_target, known_paths, no_such_task
from intermodal.engine.database import Database
from intermodal.engine.explain import Explanation, explain, explain_absent
from intermodal.engine.layout import StateFolder
from intermodal.errors import BadInput
from intermodal.spec.load import load_pipeline

HELP = "say why a task ran, or was cached, skipped or failed"
_WORDS = {
    "RUNNING": "is running",
    "SUCCEEDED": "ran and succeeded",
    "CACHED": "was taken from the cache",
    "FAILED": "failed",
    "SKIPPED": "was skipped",
    "CANCELLED": "was cancelled",
    "ABSENT": "did not come to be",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="+", metavar="[RUN] TASK", help=WORDS_HELP)
    parser.add_argument("--json", action="store_true", help="a list with one object for each task that is meant")


def run(args: argparse.Namespace) -> int:
    database, state = open_database(args.state), StateFolder(args.state.absolute())
    try:
        target = find_target(database, state, args.words)
        if target.name is None:
            raise BadInput(f"{args.words[0]!r} names a run, not a task", hint=f"intermodal show {target.run_id}")
        paths = target.choose(known_paths(database, target.run_id))
        found = [explain(database, target.run, path) for path in paths] or _absent(database, state, target)
    finally:
        database.close()
    if args.json:
        print(json.dumps([_document(item) for item in found], indent=2, ensure_ascii=False))
        return 0
    for item in found:
        _print(item)
    return 0


def _absent(database: Database, state: StateFolder, target: Target) -> list[Explanation]:
    """Explain a task that is not on record because what it is in never began. Raises BadInput if there is no such task."""
    path = state.run(target.run_id) / "pipeline.yaml"
    name = (target.name or "").rpartition("/")[2]
    found = explain_absent(database, load_pipeline(path), target.run_id, name) if path.is_file() else []
    if not found:
        raise no_such_task(target, database, state)
    return found


def _print(found: Explanation) -> None:
    print(f"{found.path} {_WORDS.get(found.state, found.state.lower())} in run {found.run}")
    if found.failure is not None:
        print(f"  {found.failure.kind.value}: {found.failure.message}")
    if found.attempts > 1:
        print(f"  after {found.attempts} attempts")
    if found.reason:
        print(f"  {'' if found.attempts == 0 else 'it ran: '}{found.reason}")
    for change in found.changes:
        print(f"    {change.text}")
    if found.inside is not None:
        print(f"  in it: {', '.join(f'{count} {state.lower()}' for state, count in found.inside.items())}")
    for path in found.failed_inside:
        print(f"    {path} failed")
    if found.failure is not None and found.log is not None:
        print(f"  log: {found.log}")


def _document(found: Explanation) -> dict[str, Any]:
    failure, before = found.failure, found.compared_with
    return {
        "run": found.run,
        "path": found.path,
        "component": found.component,
        "state": found.state,
        "reason": found.reason,
        "cached_from": found.cached_from,
        "compared_with": before and {"run": before.run, "path": before.path, "state": before.state.value},
        "changes": [change.as_json() for change in found.changes],
        "failure": failure
        and {"class": failure.kind.value, "message": failure.message, "exit_code": failure.exit_code},
        "attempts": found.attempts,
        "log": found.log,
        "inside": found.inside,
        "failed_inside": list(found.failed_inside),
    }
