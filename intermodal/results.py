"""A run as Python sees it: its state, its typed outputs, its tasks. Snapshots of the record; nothing here changes a run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intermodal.engine.artifacts import Artifact as Published
from intermodal.engine.artifacts import Outputs
from intermodal.engine.database import Database
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.layout import StateFolder
from intermodal.engine.session import link_name
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.errors import ExitCode, IntermodalError
from intermodal.spec.load import load_pipeline
from intermodal.spec.paths import find_component
from intermodal.spec.types import InputArtifact, OutputArtifact, Pipeline

if TYPE_CHECKING:
    from rich.console import Group

TAIL_LINES = 20
"""Lines of a failed task's log in the text of RunFailed."""


@dataclass(frozen=True)
class Artifact:
    """An artifact of a run. It may be an argument of another run, and `open` or `Path` take it for its path."""

    name: str
    type: str
    """The KFP type, e.g. `system.Model`."""
    path: Path | None
    """The file or folder, read-only. None if the artifact is metadata alone, or if it lives elsewhere: see `uri`."""
    uri: str
    """Where the content is: `file://` for a path, empty for metadata alone."""
    metadata: Mapping[str, Any]
    digest: str
    """`sha256:` of the content (files, names and all), empty if it is not in the state folder."""

    def __fspath__(self) -> str:
        if self.path is None:
            raise FileNotFoundError(f"artifact {self.name!r} has no file here; its uri is {self.uri!r}")
        return str(self.path)


@dataclass(frozen=True)
class Attempt:
    """One try of a task."""

    number: int
    exit_code: int | None
    failure: Failure | None
    log_path: Path

    @property
    def log(self) -> str:
        """What the step wrote to both its streams; bytes that are no UTF-8 are shown as escapes."""
        try:
            return self.log_path.read_text(encoding="utf-8", errors="backslashreplace")
        except FileNotFoundError:
            return ""


@dataclass(frozen=True)
class Task:
    """A task as it ended. Values of inputs and outputs are parameters with their types, or artifacts (lists where declared)."""

    path: str
    """Its place in the run, e.g. `for-loop-1/0/train`."""
    component: str
    state: State
    failure: Failure | None
    seconds: float
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    attempts: Sequence[Attempt]
    """What ran in this run: empty for a task that was cached or skipped, and for a loop or a nested pipeline."""
    cached_from: str | None
    """`run/task` that the outputs are from, if they were cached."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def log(self) -> str:
        """The log of the last attempt, empty if there was none."""
        return self.attempts[-1].log if self.attempts else ""


@dataclass(frozen=True)
class Run:
    """A run as it ended (or, of one that goes on, as it was when this was read)."""

    id: str
    pipeline: str
    backend: str
    state: State
    seconds: float
    folder: Path
    """The run's folder in the state folder."""
    arguments: Mapping[str, Any]
    outputs: Mapping[str, Any]
    """The pipeline's outputs by name: parameters with their types, `Artifact`s, lists of them where the pipeline declares a list."""
    tasks: Mapping[str, Task] = field(repr=False)
    """Every task by its path, in the order in which they began."""

    @property
    def ok(self) -> bool:
        """Whether every task that ran is green."""
        return self.state.green

    @property
    def output(self) -> Any:
        """The pipeline's only output. Raises ValueError if it has none or several."""
        if len(self.outputs) != 1:
            raise ValueError(f"run {self.id} has {len(self.outputs)} outputs: {', '.join(self.outputs) or 'none'}")
        return next(iter(self.outputs.values()))

    @property
    def failed(self) -> list[Task]:
        """The tasks that failed of themselves, in order: no loop or nested pipeline that failed only for what is in it."""
        return [task for task in self.tasks.values() if task.state is State.FAILED and task.failure is not None]

    def find(self, name: str) -> list[Task]:
        """Return the tasks of a name, wherever they are: one for each iteration of a loop."""
        return [task for task in self.tasks.values() if task.name == name or task.path.split("/")[-2:-1] == [name]]

    def raise_for_failure(self) -> None:
        """Raise RunFailed if the run is not green."""
        if not self.ok:
            raise RunFailed(self)

    def __str__(self) -> str:
        return f"run {self.id} {self.state.value.lower()} in {self.seconds:.1f} s"

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for column in ("task", "state", "seconds", ""):
            table.add_column(column, justify="right" if column == "seconds" else "left")
        for row in self._rows():
            table.add_row(*map(Text, row))
        return Group(Text(str(self)), table)

    def _repr_html_(self) -> str:
        from html import escape

        rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in self._rows())
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        outputs = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(_shown(value))}</td></tr>" for name, value in self.outputs.items()
        )
        return f"<b>{escape(str(self))}</b><table>{body}</table>" + (
            outputs and f"<b>outputs</b><table>{outputs}</table>"
        )

    def _rows(self) -> Iterator[tuple[str, str, str, str]]:
        for task in self.tasks.values():
            why = f"{task.failure.kind.value}: {task.failure.message}" if task.failure else task.cached_from or ""
            yield task.path, task.state.value.lower(), f"{task.seconds:.1f}", why


class RunFailed(IntermodalError):
    """A run that is not green. `run` is all of it; the text names each failed task, its class, and the end of its log."""

    exit_code = ExitCode.RUN_FAILED

    def __init__(self, run: Run) -> None:
        self.run = run
        reasons = [
            f"{task.path}: {task.failure.kind.value}: {task.failure.message}" for task in run.failed if task.failure
        ]
        word = "was stopped" if run.state is State.CANCELLED else "failed"
        super().__init__(f"run {run.id} {word}" + (f": {'; '.join(reasons)}" if reasons else ""))

    def __reduce__(self) -> tuple[type[RunFailed], tuple[Run]]:
        return type(self), (self.run,)

    def __str__(self) -> str:
        return "\n".join([self.message, *(text for task in self.run.failed[:3] if (text := log_tail(task)))])


def log_tail(task: Task, lines: int = TAIL_LINES) -> str:
    """Return the end of a task's last log under a line that says where the whole is; empty if it wrote nothing."""
    text = task.log.rstrip()
    if not text:
        return ""
    shown = ["".join(c if c.isprintable() or c == "\t" else " " for c in line) for line in text.splitlines()[-lines:]]
    return "\n".join([f"--- log of {task.path}, its last lines ({task.attempts[-1].log_path})", *shown])


def _shown(value: Any) -> str:
    if isinstance(value, Artifact):
        return str(value.path or value.uri or json.dumps(dict(value.metadata)))
    return repr(value) if not isinstance(value, list) else f"[{', '.join(map(_shown, value))}]"


def read_run(database: Database, state: StateFolder, run: str, pipeline: Pipeline | None = None) -> Run:
    """Read a run of the record. `pipeline` is what it runs, read from the run's folder if it is not given."""
    return _Reader(database, state, run, pipeline).read()


class _Reader:
    def __init__(self, database: Database, state: StateFolder, run: str, pipeline: Pipeline | None) -> None:
        self._database = database
        self._folder = state.run(run)
        self._store = Store(state.store)
        self._run = run
        self._pipeline = pipeline or load_pipeline(self._folder / "pipeline.yaml")

    def read(self) -> Run:
        row = self._database.query("SELECT * FROM runs WHERE id=?", (self._run,))[0]
        outputs = Outputs.from_json(json.loads(row["outputs"])) if row["outputs"] else Outputs()
        return Run(
            id=self._run,
            pipeline=row["pipeline"],
            backend=row["backend"],
            state=State(row["state"]),
            seconds=_seconds(row),
            folder=self._folder,
            arguments=json.loads(row["arguments"]),
            outputs=self._values(outputs, _lists(self._pipeline.root.output_artifacts), links=self._folder / "outputs"),
            tasks=self._tasks(),
        )

    def _tasks(self) -> dict[str, Task]:
        attempts: dict[str, list[Attempt]] = {}
        rows = self._database.query("SELECT * FROM attempts WHERE run=? ORDER BY path, number", (self._run,))
        for row in rows:
            attempt = Attempt(row["number"], row["exit_code"], _failure(row), Path(row["log"]))
            attempts.setdefault(row["path"], []).append(attempt)
        rows = self._database.query("SELECT * FROM tasks WHERE run=? ORDER BY started, path", (self._run,))
        return {row["path"]: self._task(row, attempts.get(row["path"], [])) for row in rows}

    def _task(self, row: sqlite3.Row, attempts: Sequence[Attempt]) -> Task:
        component, loop = find_component(self._pipeline, row["path"])
        lists = frozenset(component.output_artifacts) if loop else _lists(component.output_artifacts)
        inputs, outputs = (
            Outputs.from_json(json.loads(row[kind])) if row[kind] else Outputs() for kind in ("inputs", "outputs")
        )
        return Task(
            path=row["path"],
            component=row["component"].removeprefix("comp-"),
            state=State(row["state"]),
            failure=_failure(row),
            seconds=_seconds(row),
            inputs=self._values(inputs, _lists(component.input_artifacts)),
            outputs=self._values(outputs, lists),
            attempts=attempts,
            cached_from=row["cached_from"],
        )

    def _values(self, outputs: Outputs, lists: frozenset[str], links: Path | None = None) -> dict[str, Any]:
        values: dict[str, Any] = dict(outputs.parameters)
        for name, items in outputs.artifacts.items():
            names = [links / link_name(name, items, index) if links else None for index in range(len(items))]
            made = [self._artifact(item, link) for item, link in zip(items, names, strict=True)]
            values[name] = made if name in lists or len(made) != 1 else made[0]
        return values

    def _artifact(self, item: Published, link: Path | None) -> Artifact:
        """Return the artifact; its path is the link by which the run's folder names it, if there is one."""
        path = self._store.path(item.digest) if item.digest else None
        if path is not None and link is not None and link.is_symlink():
            path = link
        return Artifact(
            name=item.name,
            type=item.type.schema_title,
            path=path,
            uri=item.uri or (path.as_uri() if path else ""),
            metadata=dict(item.metadata),
            digest=f"sha256:{item.digest}" if item.digest else "",
        )


def _lists(declared: Mapping[str, InputArtifact] | Mapping[str, OutputArtifact]) -> frozenset[str]:
    return frozenset(name for name, artifact in declared.items() if artifact.is_list)


def _failure(row: sqlite3.Row) -> Failure | None:
    if row["failure_class"] is None:
        return None
    return Failure(FailureClass(row["failure_class"]), row["failure"] or "", row["exit_code"])


def _seconds(row: sqlite3.Row) -> float:
    return float(row["ended"] - row["started"]) if row["ended"] and row["started"] else 0.0
