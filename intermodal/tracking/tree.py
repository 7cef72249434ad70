"""What the record of a run says, as the runs that MLflow is to hold: one for the pipeline, one for each attempt of a task.

A task that started no attempt (cached, imported, refused) is one run as well; a skipped one is none, nor is a loop or a nested pipeline.
Trials are not here: they are in what a step told (`lines`). No secret is: neither commands nor variables are looked at.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder
from intermodal.engine.resume import REPLAY_OF, is_held
from intermodal.engine.states import State
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.tracking import schema
from intermodal.tracking.lines import as_name, as_param, as_point
from intermodal.tracking.names import pipeline_identity, run_name

INTERRUPTED = "INTERRUPTED"
_DATASET_DIGEST = 36
"""Characters that MLflow keeps of a dataset's digest; the whole of it is in the source."""


@dataclass(frozen=True)
class Node:
    """One MLflow run as it should be. Times are milliseconds since the epoch."""

    key: str
    name: str
    state: str
    """The engine's, or INTERRUPTED."""
    start: int
    end: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    points: Sequence[Mapping[str, Any]] = ()
    datasets: Sequence[Mapping[str, Any]] = ()
    folder: Path | None = None
    """Of the attempt: where what it told lies."""

    @property
    def status(self) -> str:
        return schema.STATUS[self.state]

    @property
    def over(self) -> bool:
        return self.status != "RUNNING"

    def identity(self) -> str:
        """Return a hash of all that is to be sent, what the step told apart."""
        document = [self.status, self.end, dict(self.tags), dict(self.params), list(self.points), list(self.datasets)]
        return sha256_text(json.dumps(document, sort_keys=True))


@dataclass(frozen=True)
class Tree:
    """A run of the record. `root` is the pipeline's run; `live`: a process works on it."""

    run: str
    experiment: str
    live: bool
    root: Node
    tasks: Sequence[Node]


def is_tracked(row: sqlite3.Row) -> bool:
    """Whether a run of the record is an experiment: it ran on this machine, and is no replay."""
    request = json.loads(row["request"] or "{}")
    return "options" in request and REPLAY_OF not in request


def read_tree(database: Database, state: StateFolder, run: str) -> Tree:
    """Read a run and its tasks."""
    live = is_held(state.run(run))  # before the record: a run that ends in between is over in it
    row = database.query("SELECT * FROM runs WHERE id=?", (run,))[0]
    facts = json.loads(row["request"] or "{}").get("facts", {})
    common = {
        schema.SCHEMA: schema.SCHEMA_VERSION,
        schema.RUN: run,
        schema.PIPELINE: row["pipeline"],
        schema.BACKEND: row["backend"],
        "mlflow.source.name": row["pipeline"],
        "mlflow.source.type": "PROJECT",
        **_system_tags(facts),
    }
    attempts: dict[str, list[sqlite3.Row]] = {}
    for attempt in database.query("SELECT * FROM attempts WHERE run=? ORDER BY number", (run,)):
        attempts.setdefault(attempt["path"], []).append(attempt)
    tasks: list[Node] = []
    for task in database.query("SELECT * FROM tasks WHERE run=? ORDER BY started, path", (run,)):
        tasks += _task_nodes(task, attempts.pop(task["path"], []), common, state, live)
    return Tree(run, row["pipeline"], live, _root(row, common, live), tasks)


def _root(row: sqlite3.Row, common: Mapping[str, str], live: bool) -> Node:
    given = json.loads(row["request"] or "{}")
    facts, arguments = given.get("facts", {}), json.loads(row["arguments"])
    inputs = {**facts.get("defaults", {}), **arguments}
    identity = pipeline_identity(row["pipeline_digest"], inputs, facts.get("images", {}))
    parameters = {**facts.get("defaults", {}), **given.get("parameters", {})}
    state = row["state"] if row["ended"] is not None else State.RUNNING.value if live else INTERRUPTED
    artifacts = given.get("artifacts", {})
    tags = {
        **common,
        schema.KIND: "pipeline",
        schema.KEY: schema.run_key(row["id"]),
        schema.STATE: state,
        schema.FINGERPRINT: identity,
        **_lineage(schema.INPUTS, artifacts),
    }
    outputs = json.loads(row["outputs"] or "{}")
    if row["ended"] is not None:
        tags |= _lineage(schema.OUTPUTS, outputs.get("artifacts", {}))
    return Node(
        key=schema.run_key(row["id"]),
        name=run_name(row["pipeline"], identity, parameters),
        state=state,
        start=_ms(row["started"]),
        end=_ms(row["ended"]) if row["ended"] is not None else None,
        tags=tags,
        params=_params(parameters),
        points=_points(outputs, _ms(row["ended"] or 0)),
        datasets=_datasets(artifacts),
    )


def _task_nodes(
    task: sqlite3.Row, attempts: Sequence[sqlite3.Row], common: Mapping[str, str], state: StateFolder, live: bool
) -> list[Node]:
    inputs = json.loads(task["inputs"] or "{}")
    tags = {
        **common,
        schema.KIND: "task",
        schema.TASK: task["path"],
        schema.COMPONENT: str(task["component"]).removeprefix("comp-"),  # as people write it
        **({schema.FINGERPRINT: task["fingerprint"]} if task["fingerprint"] else {}),
        **_image(task),
        **_lineage(schema.INPUTS, inputs.get("artifacts", {})),
    }
    more = {"params": _params(inputs.get("parameters", {})), "datasets": _datasets(inputs.get("artifacts", {}))}
    nodes = [_attempt_node(task, row, tags, more, state, live=live, last=row is attempts[-1]) for row in attempts]
    final = State(task["state"]).final
    if final and task["inputs"] and (task["cached_from"] or not attempts):
        nodes.append(_ended_node(task, schema.run_key(task["run"], task["path"]), tags, more))
    return nodes


def _name(task: sqlite3.Row, tags: Mapping[str, str]) -> str:
    """Return the name of a task's run, made of its identity; its path, if it failed before it had one."""
    identity = tags.get(schema.FINGERPRINT)
    if not identity:
        return str(task["path"])
    return run_name(tags[schema.COMPONENT], identity, json.loads(task["inputs"] or "{}").get("parameters", {}))


def _image(task: sqlite3.Row) -> dict[str, str]:
    digest = dict(json.loads(task["parts"] or "[]")).get("image")
    return {schema.IMAGE: digest} if digest else {}


def _attempt_node(
    task: sqlite3.Row,
    row: sqlite3.Row,
    tags: Mapping[str, str],
    more: Mapping[str, Any],
    state: StateFolder,
    *,
    live: bool,
    last: bool,
) -> Node:
    path, number = row["path"], row["number"]
    key = schema.run_key(row["run"], path, attempt=number)
    launch = json.loads(row["launch"] or "{}")
    tags = {
        **tags,
        schema.ATTEMPT: str(number),
        **({schema.IMAGE: launch["image"]["digest"]} if launch else {}),
        **({schema.FINGERPRINT: row["fingerprint"]} if row["fingerprint"] else {}),
    }
    folder = state.attempt(row["run"], path, number)
    if last and State(task["state"]).final and not task["cached_from"]:
        return _ended_node(task, key, tags, more, start=row["started"], folder=folder)
    shown = _attempt_state(row, live=live, last=last)
    tags = {**tags, schema.KEY: key, schema.STATE: shown, **_failure(row)}
    end = _ms(row["ended"]) if row["ended"] is not None else None
    return Node(key, _name(task, tags), shown, _ms(row["started"]), end, tags, folder=folder, **more)


def _attempt_state(row: sqlite3.Row, *, live: bool, last: bool) -> str:
    if row["ended"] is None:
        return State.RUNNING.value if live and last else INTERRUPTED
    if row["failure_class"] is None:
        return State.SUCCEEDED.value
    return State.CANCELLED.value if row["failure_class"] == "cancelled" else State.FAILED.value


def _ended_node(
    task: sqlite3.Row,
    key: str,
    tags: Mapping[str, str],
    more: Mapping[str, Any],
    *,
    start: float | None = None,
    folder: Path | None = None,
) -> Node:
    """Return the run of a task that is final, with what it gave."""
    outputs = json.loads(task["outputs"] or "{}")
    ended = _ms(task["ended"])
    tags = {
        **tags,
        schema.KEY: key,
        schema.STATE: task["state"],
        **({schema.CACHED_FROM: task["cached_from"]} if task["cached_from"] else {}),
        **_lineage(schema.OUTPUTS, outputs.get("artifacts", {})),
        **_failure(task),
    }
    began = _ms(task["started"] if start is None else start)
    name, points = _name(task, tags), _points(outputs, ended)
    return Node(key, name, task["state"], began, ended, tags, points=points, folder=folder, **more)


def _failure(row: sqlite3.Row) -> dict[str, str]:
    return {schema.FAILURE: row["failure_class"]} if row["failure_class"] else {}


def _system_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    git, hardware = facts.get("git", {}), facts.get("hardware", {})
    tags = {schema.HARDWARE: canonical_json(hardware)} if hardware else {}
    if git:
        tags |= {schema.GIT_COMMIT: git["commit"], schema.GIT_DIRTY: str(git["dirty"]).lower()}
        tags["mlflow.source.git.commit"] = git["commit"]
    return tags


def _lineage(tag: str, artifacts: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    found: dict[str, Any] = {}
    for name, items in artifacts.items():
        digests = [item["digest"] for item in items if item["digest"]]
        if digests:
            found[name] = digests[0] if len(items) == 1 else digests
    text = canonical_json(found)
    return {tag: text} if found and len(text) <= schema.MAX_TAG else {}


def _params(values: Mapping[str, Any]) -> dict[str, str]:
    return {cleaned: as_param(value) for name, value in values.items() if (cleaned := as_name(name))}


def _datasets(artifacts: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return input artifacts as MLflow's dataset inputs."""
    return [
        {
            "dataset": {
                "name": item["name"] or name,
                "digest": item["digest"][:_DATASET_DIGEST],
                "source_type": "intermodal",
                "source": canonical_json({"digest": f"sha256:{item['digest']}", "type": item["type"][0]}),
            },
            "tags": [{"key": "mlflow.data.context", "value": name}],
        }
        for name, items in artifacts.items()
        for item in items
        if item["digest"]
    ]


def _points(outputs: Mapping[str, Any], moment: int) -> list[dict[str, Any]]:
    """Return the metrics in a task's outputs: numbers, and what its artifacts of type system.Metrics say."""
    given: dict[str, Any] = dict(outputs.get("parameters", {}))
    for name, items in outputs.get("artifacts", {}).items():
        for item in items:
            if item["type"][0] == "system.Metrics":
                for key, value in item["metadata"].items():
                    given[f"{name}/{key}" if key in given else key] = value
    points = (as_point(as_name(name), value, moment, 0) for name, value in given.items() if as_name(name))
    return [point for point in points if point is not None]


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
