"""Why a task ran, or was taken from the cache, or was skipped, or failed: read from the record alone."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from intermodal.engine.changes import Change, name_changes
from intermodal.engine.database import Database
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.history import Earlier, earlier, makers, read_parts
from intermodal.engine.lookup import NO_ENTRY
from intermodal.spec.types import Component, Dag, Pipeline


@dataclass(frozen=True)
class Explanation:
    """What became of a task, and why."""

    run: str
    path: str
    component: str
    state: str
    reason: str
    """Why it ran or did not: what the cache said, or what turned it away. Empty for a group."""
    cached_from: str | None = None
    compared_with: Earlier | None = None
    """The last run of the same task before this one."""
    changes: tuple[Change, ...] = ()
    """What of its fingerprint differs from then."""
    failure: Failure | None = None
    attempts: int = 0
    log: str | None = None
    """Of the last attempt."""
    inside: Mapping[str, int] | None = None
    """Of a group: how many of the tasks in it are in which state."""
    failed_inside: tuple[str, ...] = ()


def explain(database: Database, run: sqlite3.Row, path: str) -> Explanation:
    """Explain a task of a run that is on record."""
    row = database.query("SELECT * FROM tasks WHERE run=? AND path=?", (run["id"], path))[0]
    attempts = database.query("SELECT log FROM attempts WHERE run=? AND path=? ORDER BY number", (run["id"], path))
    base = Explanation(
        run=run["id"],
        path=path,
        component=row["component"].removeprefix("comp-"),
        state=row["state"],
        reason=row["reason"] or "",
        cached_from=row["cached_from"],
        failure=_failure(row),
        attempts=len(attempts),
        log=attempts[-1]["log"] if attempts else None,
    )
    if row["parts"]:
        return _compared(database, run, row, base)
    return _group(database, base)


def explain_absent(database: Database, pipeline: Pipeline, run: str, name: str) -> list[Explanation]:
    """Explain a task that never came to be: each group of the run that has a task `name` in it and did not begin."""
    rows = database.query("SELECT * FROM tasks WHERE run=? AND state IN ('SKIPPED', 'CANCELLED', 'FAILED')", (run,))
    found = []
    for row in rows:
        component = pipeline.components.get(row["component"])
        if component is not None and name in _declared(pipeline, component):
            word = row["state"].lower() if row["state"] == "FAILED" else f"was {row['state'].lower()}"
            reason = f"{row['path']}, which it is in, {word}: {row['reason'] or row['failure'] or ''}".rstrip(": ")
            found.append(Explanation(run, f"{row['path']}/{name}", name, "ABSENT", reason))
    return found


def _declared(pipeline: Pipeline, component: Component) -> set[str]:
    """Return the names of all tasks in a component, at any depth."""
    dag = component.implementation
    if not isinstance(dag, Dag):
        return set()
    inner = (_declared(pipeline, pipeline.component(task)) for task in dag.tasks.values())
    return set(dag.tasks).union(*inner)


def _failure(row: sqlite3.Row) -> Failure | None:
    if row["failure_class"] is None:
        return None
    return Failure(FailureClass(row["failure_class"]), row["failure"], row["exit_code"])


def _compared(database: Database, run: sqlite3.Row, row: sqlite3.Row, base: Explanation) -> Explanation:
    before = earlier(database, run["pipeline"], base.path, run["started"])
    changes: tuple[Change, ...] = ()
    if before is not None and base.cached_from is None:
        outputs = database.query("SELECT path, outputs FROM tasks WHERE run=? AND outputs IS NOT NULL", (base.run,))
        made = makers({other["path"]: json.loads(other["outputs"]) for other in outputs})
        changes = tuple(name_changes(before.parts, read_parts(row["parts"]), made))
    return replace(base, compared_with=before, changes=changes, reason=_reason(base, before, changes))


def _reason(base: Explanation, before: Earlier | None, changes: tuple[Change, ...]) -> str:
    if base.reason != NO_ENTRY:
        return base.reason
    if before is None:
        return f"{NO_ENTRY}: it had not run before"
    if changes:
        return f"{NO_ENTRY}: changed since run {before.run}"
    return f"{NO_ENTRY}: as in run {before.run}, where it {_PAST.get(before.state.value, 'did not end')}"


_PAST = {"FAILED": "failed", "CANCELLED": "was cancelled", "SUCCEEDED": "succeeded; the entry is gone since"}


def _group(database: Database, base: Explanation) -> Explanation:
    """Explain a task that is no single leaf by what is in it."""
    inside = database.query(
        "SELECT path, state, fingerprint FROM tasks WHERE run=? AND substr(path, 1, ?)=? ORDER BY started, path",
        (base.run, len(base.path) + 1, f"{base.path}/"),
    )
    if not inside:
        return base
    paths = [row["path"] for row in inside]
    leaves = [row for row in inside if not any(other.startswith(f"{row['path']}/") for other in paths)]
    failed = tuple(row["path"] for row in leaves if row["state"] == "FAILED")
    return replace(base, inside=dict(Counter(row["state"] for row in leaves)), failed_inside=failed)
