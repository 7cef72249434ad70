"""What a report tells of a run, read from its record once: typed, in order, and with its place in the pipeline."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Artifact, Outputs
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.states import State
from intermodal.spec.types import Container, Dag, Pipeline


@dataclass(frozen=True)
class AttemptRecord:
    """One attempt; times are seconds since the epoch, `ended` None while it runs or if nobody saw its end."""

    number: int
    started: float
    ended: float | None
    exit_code: int | None
    failure_class: str | None
    failure: str | None
    log: Path
    launch: Mapping[str, Any]


@dataclass(frozen=True)
class TaskRecord:
    """One task of the record: a leaf, or a group (a loop, a nested pipeline)."""

    index: int
    path: str
    place: tuple[str, ...]
    """Names of the tasks from the pipeline down to this one: the path without the numbers of iterations."""
    component: str
    state: State
    started: float | None
    ended: float | None
    fingerprint: str | None
    cached_from: str | None
    failure_class: str | None
    failure: str | None
    reason: str | None
    inputs: Mapping[str, Any]
    outputs: Outputs
    is_leaf: bool
    attempts: tuple[AttemptRecord, ...] = ()

    @property
    def anchor(self) -> str:
        return f"task-{self.index}"

    @property
    def seconds(self) -> float | None:
        return None if self.started is None or self.ended is None else max(0.0, self.ended - self.started)

    def artifacts(self) -> Iterator[tuple[str, Artifact]]:
        """Yield (output's name, artifact)."""
        for name, items in self.outputs.artifacts.items():
            for item in items:
                yield name, item


@dataclass(frozen=True)
class RunRecord:
    """One run."""

    id: str
    state: State
    backend: str
    started: float
    ended: float | None
    arguments: Mapping[str, Any]
    configuration: Mapping[str, Any]
    configuration_digest: str
    pipeline_name: str
    pipeline_digest: str
    request: Mapping[str, Any]
    outputs: Outputs
    tasks: tuple[TaskRecord, ...]
    folder: Path
    pipeline: Pipeline | None = field(repr=False)
    """None if the run's folder no longer holds it."""

    @cached_property
    def leaves(self) -> list[TaskRecord]:
        return [task for task in self.tasks if task.is_leaf]

    @cached_property
    def iterations(self) -> Mapping[str, int]:
        """Path of a loop -> its iterations, as far as the record tells."""
        found: dict[str, int] = {}
        for task in self.tasks:
            parts = task.path.split("/")
            for position, part in enumerate(parts):
                if position and part.isdigit():
                    loop = "/".join(parts[:position])
                    found[loop] = max(found.get(loop, 0), int(part) + 1)
        return found

    @cached_property
    def by_place(self) -> Mapping[tuple[str, ...], Sequence[TaskRecord]]:
        """Place in the pipeline -> its tasks: one, or one for each iteration of the loops around it."""
        found: dict[tuple[str, ...], list[TaskRecord]] = {}
        for task in self.tasks:
            found.setdefault(task.place, []).append(task)
        return found


def read_run(database: Database, state: StateFolder, run: str, pipeline: Pipeline | None) -> RunRecord:
    """Read a run, which must be in the record."""
    row = database.query("SELECT * FROM runs WHERE id=?", (run,))[0]
    attempts: dict[str, list[AttemptRecord]] = {}
    for item in database.query("SELECT * FROM attempts WHERE run=? ORDER BY path, number", (run,)):
        attempts.setdefault(item["path"], []).append(_attempt(item))
    rows = database.query("SELECT * FROM tasks WHERE run=? ORDER BY started, path", (run,))
    return RunRecord(
        id=row["id"],
        state=State(row["state"]),
        backend=row["backend"],
        started=row["started"],
        ended=row["ended"],
        arguments=json.loads(row["arguments"]),
        configuration=json.loads(row["configuration"]),
        configuration_digest=row["configuration_digest"],
        pipeline_name=row["pipeline"],
        pipeline_digest=row["pipeline_digest"],
        request=json.loads(row["request"] or "{}"),
        outputs=_outputs(row["outputs"]),
        tasks=tuple(_task(index, item, pipeline, attempts.get(item["path"], [])) for index, item in enumerate(rows)),
        folder=state.run(run),
        pipeline=pipeline,
    )


def _outputs(text: str | None) -> Outputs:
    return Outputs.from_json(json.loads(text)) if text else Outputs()


def _attempt(row: sqlite3.Row) -> AttemptRecord:
    return AttemptRecord(
        number=row["number"],
        started=row["started"],
        ended=row["ended"],
        exit_code=row["exit_code"],
        failure_class=row["failure_class"],
        failure=row["failure"],
        log=Path(row["log"]),
        launch=json.loads(row["launch"] or "{}"),
    )


def _task(index: int, row: sqlite3.Row, pipeline: Pipeline | None, attempts: list[AttemptRecord]) -> TaskRecord:
    return TaskRecord(
        index=index,
        path=row["path"],
        place=place_of(row["path"], pipeline),
        component=row["component"],
        state=State(row["state"]),
        started=row["started"],
        ended=row["ended"],
        fingerprint=row["fingerprint"],
        cached_from=row["cached_from"],
        failure_class=row["failure_class"],
        failure=row["failure"],
        reason=row["reason"],
        inputs=json.loads(row["inputs"] or "{}"),
        outputs=_outputs(row["outputs"]),
        is_leaf=_is_leaf(row["component"], pipeline),
        attempts=tuple(attempts),
    )


def _is_leaf(component: str, pipeline: Pipeline | None) -> bool:
    found = pipeline.components.get(component) if pipeline else None
    return found is None or not isinstance(found.implementation, Dag)


def place_of(path: str, pipeline: Pipeline | None) -> tuple[str, ...]:
    """Return the tasks on the way to a path, without the numbers of iterations."""
    parts = path.split("/")
    if pipeline is None:
        return tuple(part for part in parts if not part.isdigit())
    place: list[str] = []
    component, position = pipeline.root, 0
    while position < len(parts):
        dag = component.implementation
        task = dag.tasks.get(parts[position]) if isinstance(dag, Dag) else None
        place.append(parts[position])
        position += 1
        if task is None:
            continue
        if task.iterator is not None and position < len(parts):
            position += 1
        component = pipeline.component(task)
    return tuple(place)


def image_of(task: TaskRecord, pipeline: Pipeline | None) -> str:
    """Return the image that a task's component names, empty if it has none."""
    component = pipeline.components.get(task.component) if pipeline else None
    container = component.implementation if component else None
    return container.image if isinstance(container, Container) else ""
