"""What `submit`, `resume`, `cancel` and `fetch` share: a run that goes on elsewhere, followed until it ends or the user goes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from intermodal.backends.remote.contract import PlaceProblem, Remote
from intermodal.backends.remote.following import Follower
from intermodal.backends.remote.opened import OpenRun
from intermodal.backends.remote.places import remote_of
from intermodal.cli.executing import exit_code, stopping
from intermodal.cli.progress import PlainProgress
from intermodal.cli.records import find_run, open_database
from intermodal.cli.text import printable
from intermodal.engine.layout import StateFolder
from intermodal.engine.record import Observer
from intermodal.engine.states import State
from intermodal.errors import ExitCode
from intermodal.report import report_end
from intermodal.results import Run, log_tail, read_run

_TAILS = 5


@contextmanager
def opened(state: Path, name: str | None, *, alone: bool = True) -> Iterator[tuple[OpenRun, Remote]]:
    """Open a run of the record that goes on elsewhere, and its place. Raises BadInput, EnvironmentProblem."""
    database = open_database(state)
    try:
        found = find_run(database, name)
        with (
            OpenRun(StateFolder.at(state), database, found["id"], alone=alone) as run,
            remote_of(run, os.environ) as remote,
        ):
            yield run, remote
    finally:
        database.close()


def follow(run: OpenRun, remote: Remote, *, as_json: bool, observer: Observer | None = None) -> int:
    """Follow a run to its end and print how it ended. Ctrl-C goes away from it, and it goes on. Returns the exit code."""
    stop = Event()
    follower = Follower(run, remote, observer or PlainProgress(), stop=stop, say=note)
    with stopping(stop.set):
        try:
            state = follower.follow()
        except PlaceProblem as problem:
            note(f"run {run.id} goes on; follow it again: intermodal resume {run.id}")
            raise problem
        if state.final:
            problem_text = report_end(run.state, run.id, run.pipeline)
            if problem_text:
                note(problem_text)
    if not state.final:
        note(f"run {run.id} goes on; follow it again: intermodal resume {run.id}; stop it: intermodal cancel {run.id}")
        return ExitCode.CANCELLED
    print_end(run, as_json=as_json)
    return exit_code(state)


def print_end(run: OpenRun, *, as_json: bool) -> None:
    """Print how a run ended: failed tasks with the ends of their logs, then what to do next; or all as one JSON document."""
    ended = read_run(run.database, run.state, run.id, run.pipeline)
    if as_json:
        document = {
            "run": run.id,
            "state": ended.state.value,
            "folder": str(ended.folder),
            "failed": [task.path for task in ended.failed],
        }
        print(json.dumps(document, indent=2, sort_keys=True))
        return
    _print_failures(ended)
    print(f"run {run.id} {ended.state.value.lower()}")
    if ended.state is State.FAILED or ended.state is State.CANCELLED:
        print(f"  why: intermodal show {run.id}")
    print(f"  its outputs: intermodal fetch {run.id}")


def _print_failures(run: Run) -> None:
    for task in run.failed[:_TAILS]:
        if task.failure is not None:
            print(f"{task.path}: {task.failure.kind.value}: {task.failure.message}")
        tail = log_tail(task)
        if tail:
            print(tail)


def note(text: str) -> None:
    print(f"note: {printable(text.encode(), None)}", file=sys.stderr, flush=True)
