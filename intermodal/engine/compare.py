"""Two runs side by side, task by task: what they were asked, what each task was made of, what it gave, how long it took."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intermodal.engine.changes import ABSENT, Change, name_changes, short, value_changes
from intermodal.engine.database import Database
from intermodal.engine.history import makers, read_parts
from intermodal.engine.layout import StateFolder
from intermodal.spec.load import load_pipeline


@dataclass(frozen=True)
class TaskDifference:
    """One task in two runs; a side that does not have it is None."""

    path: str
    states: tuple[str | None, str | None]
    seconds: tuple[float | None, float | None]
    changes: tuple[Change, ...]
    """What it was made of: parameters, inputs, image, command."""
    outputs: tuple[Change, ...]
    """What it gave: parameters, contents, metadata (metrics are metadata)."""

    @property
    def same(self) -> bool:
        """Whether it came to the same, by running or from the cache."""
        done = [state in ("SUCCEEDED", "CACHED") for state in self.states]
        alike = all(done) or self.states[0] == self.states[1]
        return alike and not self.changes and not self.outputs


@dataclass(frozen=True)
class RunDifference:
    """Two runs; the first is `before`."""

    runs: tuple[str, str]
    states: tuple[str, str]
    seconds: tuple[float | None, float | None]
    asked: tuple[Change, ...]
    """Pipeline, backend, arguments, configuration."""
    tasks: tuple[TaskDifference, ...]


def compare_runs(database: Database, state: StateFolder, before: sqlite3.Row, after: sqlite3.Row) -> RunDifference:
    """Compare two runs that are on record. Raises BadInput if the pipeline that one of them kept cannot be read."""
    sides = [_tasks(database, run["id"]) for run in (before, after)]
    made = makers({path: json.loads(row["outputs"]) for path, row in sides[1].items() if row["outputs"]})
    paths = [*sides[1], *(path for path in sides[0] if path not in sides[1])]
    return RunDifference(
        (before["id"], after["id"]),
        (before["state"], after["state"]),
        (_seconds(before), _seconds(after)),
        tuple(_asked(state, before, after)),
        tuple(_task(path, sides[0].get(path), sides[1].get(path), made) for path in paths),
    )


def _tasks(database: Database, run: str) -> dict[str, sqlite3.Row]:
    rows = database.query("SELECT * FROM tasks WHERE run=? ORDER BY started, path", (run,))
    return {row["path"]: row for row in rows}


def _seconds(row: sqlite3.Row | None) -> float | None:
    if row is None or row["started"] is None or row["ended"] is None:
        return None
    return float(row["ended"] - row["started"])


def _asked(state: StateFolder, before: sqlite3.Row, after: sqlite3.Row) -> list[Change]:
    found = []
    for column, part in (("pipeline", "pipeline"), ("pipeline_digest", "pipeline"), ("backend", "backend")):
        old, new = before[column], after[column]
        if old != new:
            what = "the pipeline's document" if column == "pipeline_digest" else part
            found.append(Change(part, column, old, new, f"{what} changed: {short(old)} -> {short(new)}"))
    found += value_changes(_arguments(state, before), _arguments(state, after), "arguments", "argument")
    told = {change.name for change in found}
    configuration = value_changes(
        json.loads(before["configuration"]), json.loads(after["configuration"]), "configuration", "configuration"
    )
    return [*found, *(change for change in configuration if change.name not in told)]


def _arguments(state: StateFolder, run: sqlite3.Row) -> dict[str, Any]:
    """Return a run's arguments, the defaults that it took among them."""
    path = state.run(run["id"]) / "pipeline.yaml"
    declared = load_pipeline(path).root.input_parameters if path.is_file() else {}
    defaults = {name: item.default for name, item in declared.items() if item.has_default}
    return {**defaults, **json.loads(run["arguments"])}


def _task(path: str, before: sqlite3.Row | None, after: sqlite3.Row | None, made: Mapping[str, str]) -> TaskDifference:
    states = (before["state"] if before else None, after["state"] if after else None)
    changes: Sequence[Change] = ()
    outputs: Sequence[Change] = ()
    if before is not None and after is not None:
        if before["parts"] and after["parts"]:
            changes = name_changes(read_parts(before["parts"]), read_parts(after["parts"]), made)
        outputs = _outputs(json.loads(before["outputs"] or "{}"), json.loads(after["outputs"] or "{}"))
    return TaskDifference(path, states, (_seconds(before), _seconds(after)), tuple(changes), tuple(outputs))


def _outputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    found = value_changes(before.get("parameters", {}), after.get("parameters", {}), "parameters", "output")
    old, new = before.get("artifacts", {}), after.get("artifacts", {})
    for name in (*new, *(name for name in old if name not in new)):
        found += _artifacts(name, old.get(name, []), new.get(name, []))
    return found


def _artifacts(name: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Change]:
    if len(before) != len(after):
        old_count, new_count = len(before) or ABSENT, len(after) or ABSENT
        line = f"output {name}: {len(before)} artifacts -> {len(after)}"
        return [Change("artifacts", name, old_count, new_count, line)]
    found = []
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        place = f"output {name}" if len(after) == 1 else f"output {name}[{number}]"
        if (one := old["digest"] or old["uri"]) != (other := new["digest"] or new["uri"]):
            line = f"{place}: content changed ({short(one)} -> {short(other)})"
            found.append(Change("artifacts", name, one, other, line))
        for change in value_changes(old["metadata"], new["metadata"], "metadata"):
            full = f"{name}.{change.name}"
            found.append(Change("metadata", full, change.before, change.after, f"{place}: {change.text}"))
    return found
