"""What a user's words name: a run, a task in it, or both. Shared by `logs`, `shell` and `replay`."""

from __future__ import annotations

import difflib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from intermodal.backends.remote.contract import PLACES
from intermodal.cli.records import find_run
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.states import State
from intermodal.errors import BadInput

WORDS_HELP = "a task's path or the end of it, after a run or a unique part of its name (default: the newest run)"


@dataclass(frozen=True)
class Target:
    """A run and what of it is meant. `name` is as the user wrote it; None means the whole run."""

    run: sqlite3.Row
    name: str | None

    @property
    def run_id(self) -> str:
        return str(self.run["id"])

    def matches(self, path: str) -> bool:
        """Whether a task is meant: by its path, the end of its path, or a group above it."""
        if self.name is None:
            return True
        wanted = f"/{self.name}/"
        return f"/{path}/".endswith(wanted) or f"/{path}/".startswith(wanted)

    def choose(self, paths: Iterable[str]) -> list[str]:
        """Return those of `paths` that are meant. A path itself goes before paths that only end with the same name."""
        found = list(dict.fromkeys(paths))
        return [self.name] if self.name in found else [path for path in found if self.matches(path)]


def find_target(database: Database, state: StateFolder, words: Sequence[str]) -> Target:
    """Return what `[RUN] TASK`, `RUN/TASK`, `RUN` or `TASK` names. A task of the newest run goes before a part of a run's name.

    Raises BadInput.
    """
    if len(words) > 2:
        raise BadInput(f"{' '.join(words)!r}: expected a run and a task at most")
    if len(words) == 2:
        return Target(find_run(database, words[0]), words[1])
    newest = find_run(database, None)
    if not words:
        return Target(newest, None)
    head, _, rest = words[0].partition("/")
    for name, task in ((words[0], None), (head, rest or None)):
        exact = database.query("SELECT * FROM runs WHERE id=?", (name,))
        if exact:
            return Target(exact[0], task)
    here = Target(newest, words[0])
    if any(here.matches(path) for path in known_paths(database, newest["id"])):
        return here
    parts = [row["id"] for row in database.query("SELECT id FROM runs") if head in row["id"]]
    if parts:
        return Target(find_run(database, head), rest or None)
    if words[0] in task_names(state, newest["id"]):  # a task of a live run that has not begun
        return here
    raise no_such_task(here, database, state)


def one_task(target: Target, database: Database, state: StateFolder) -> str:
    """Return the path of the one container task that is meant; where several are, or none is named, the one that failed.

    Raises BadInput.
    """
    if target.run["backend"] in PLACES:
        raise BadInput(
            f"run {target.run_id} went on in {target.run['backend']}: nothing of its tasks is on this machine",
            hint="run the pipeline here: intermodal run",
        )
    # Only what runs as a process has a fingerprint: no loop, no nested pipeline, no importer.
    rows = database.query(
        "SELECT path, state FROM tasks WHERE run=? AND fingerprint IS NOT NULL ORDER BY started, path", (target.run_id,)
    )
    chosen = target.choose(row["path"] for row in rows)
    if target.name is not None and not target.choose(known_paths(database, target.run_id)):
        raise no_such_task(target, database, state)
    failed = [row["path"] for row in rows if row["path"] in chosen and row["state"] == State.FAILED]
    for paths in (chosen, failed):
        if len(paths) == 1:
            return paths[0]
    if target.name is not None and not chosen:
        raise BadInput(f"task {target.name!r} of run {target.run_id} started no container")
    hint = f"name one of {_listed(failed or chosen)}" if chosen else None
    if target.name is None:
        raise BadInput(
            f"run {target.run_id}: {len(failed)} of {len(chosen)} tasks failed, and none is named", hint=hint
        )
    raise BadInput(f"{target.name!r} names {len(chosen)} tasks of run {target.run_id}", hint=hint)


def known_paths(database: Database, run: str) -> list[str]:
    """Return the paths of all tasks of a run that are on record."""
    return [row["path"] for row in database.query("SELECT path FROM tasks WHERE run=? ORDER BY path", (run,))]


def task_names(state: StateFolder, run: str) -> set[str]:
    """Return the names of all tasks that the run's pipeline declares, at any depth."""
    from intermodal.spec.load import load_pipeline
    from intermodal.spec.types import Dag

    path = state.run(run) / "pipeline.yaml"
    if not path.is_file():
        return set()
    pipeline = load_pipeline(path)
    graphs = (component.implementation for component in (pipeline.root, *pipeline.components.values()))
    return {name for graph in graphs if isinstance(graph, Dag) for name in graph.tasks}


def no_such_task(target: Target, database: Database, state: StateFolder) -> BadInput:
    """Return the error for a task that the run does not have, with the names that come close."""
    paths = known_paths(database, target.run_id)
    names = {*paths, *task_names(state, target.run_id)}
    close = difflib.get_close_matches(target.name or "", names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it has {_listed(paths) or 'none'}"
    return BadInput(f"run {target.run_id} has no task {target.name!r}", hint=hint)


def _listed(paths: Sequence[str], most: int = 12) -> str:
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")
