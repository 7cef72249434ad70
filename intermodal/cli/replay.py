"""`intermodal replay [RUN] TASK`: run exactly that task again, whatever the cache holds, and compare with the record.

Exit codes: 0 it succeeded, with the outputs of the record if there are any; 1 it failed, or gave something else.
"""

from __future__ import annotations

import argparse
import json
import sys

from intermodal.cli.backends import backend_of
from intermodal.cli.executing import stopping
from intermodal.cli.progress import progress
from intermodal.cli.records import open_database
from intermodal.cli.targets import WORDS_HELP, find_target, one_task
from intermodal.engine.layout import StateFolder
from intermodal.engine.past import PastAttempt, find_attempt
from intermodal.engine.replay import Replay, Replayed
from intermodal.engine.resume import StateUse
from intermodal.engine.session import new_run_id
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.errors import ExitCode

HELP = "run exactly one task of a run again and compare"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", nargs="*", metavar="[RUN] TASK", help=f"{WORDS_HELP}; no task: the one that failed")
    parser.add_argument("--attempt", type=int, metavar="N", help="which attempt (default: the last)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; progress goes to stderr")


def run(args: argparse.Namespace) -> int:
    database = open_database(args.state)
    state = StateFolder(args.state.absolute())
    use = StateUse(state.root)
    try:
        target = find_target(database, state, args.words)
        past = find_attempt(database, state, target.run_id, one_task(target, database, state), args.attempt)
        backend = backend_of(database, state.root, past.run)
        try:
            name = f"{past.path.rpartition('/')[2]}-replay"
            replay = Replay(past, new_run_id(name), backend, database, state, Store(state.store))
            with stopping(replay.stop), progress(live=False) as observer:
                observer.begin(replay.run_id, list(backend.capabilities.notes))
                replayed = replay.run(observer)
        finally:
            backend.close()
    finally:
        use.release()
        database.close()
    if args.json:
        print(json.dumps(_document(past, replayed), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        _print(past, replayed)
    return _exit_code(replayed)


def _exit_code(replayed: Replayed) -> int:
    if replayed.state is State.CANCELLED:
        return ExitCode.CANCELLED
    if replayed.state is State.SUCCEEDED and (replayed.same or not replayed.before.green):
        return ExitCode.OK
    return ExitCode.RUN_FAILED


def _print(past: PastAttempt, replayed: Replayed) -> None:
    word = replayed.state.value.lower()
    if replayed.state is State.CANCELLED:
        verdict = "nothing was compared"
    elif replayed.same:
        verdict = "with the outputs on record" if replayed.state is State.SUCCEEDED else "as on record"
    else:
        verdict = "not as on record"
    print(f"replay of {past.run}/{past.path} {word}, {verdict}")
    for line in replayed.differences:
        print(f"  {line}")
    print(f"  log: intermodal logs {replayed.run_id}")
    sys.stdout.flush()


def _document(past: PastAttempt, replayed: Replayed) -> dict[str, object]:
    failure = replayed.failure
    return {
        "run": past.run,
        "task": past.path,
        "attempt": past.number,
        "replay": replayed.run_id,
        "state": replayed.state.value,
        "state_on_record": replayed.before.value,
        "failure": {"class": failure.kind.value, "message": failure.message, "exit_code": failure.exit_code}
        if failure
        else None,
        "same": replayed.same and replayed.state is not State.CANCELLED,
        "differences": list(replayed.differences),
    }
