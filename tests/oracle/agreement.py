"""Whether the engine's record of a run says what the oracle says of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.database import Database
from intermodal.engine.graph import Graph, Work
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.spec.types import Dag
from tests.oracle.interpreter import Interpreter, Seen
from tests.oracle.leaf import Thing, Values

Plain = dict[str, Any]


def content(path: Path | None) -> Any:
    """Return what lies at `path` by relative name and hash, so that equal content is equal wherever it lies."""
    if path is None:
        return None
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def expected(seen: Seen) -> Plain:
    """Return what the oracle says of a task, as plain values."""
    return {
        "state": seen.state,
        "inputs": _oracle_values(seen.inputs) if seen.inputs is not None else None,
        "outputs": _oracle_values(seen.outputs),
    }


def _oracle_values(values: Values) -> Plain:
    return {
        "parameters": values.parameters,
        "artifacts": {name: [_oracle_thing(thing) for thing in things] for name, things in values.artifacts.items()},
    }


def _oracle_thing(thing: Thing) -> Plain:
    where = thing.uri if thing.path is None else ""
    return {"type": thing.type, "content": content(thing.path), "uri": where, "metadata": thing.metadata}


def found(graph: Graph, store: Store) -> dict[str, Plain]:
    """Return what the engine says of every task and iteration, by path; the pipeline itself is ''."""
    root = graph.root
    return {"": _engine_seen(root.state, root.inputs, root.outputs, store), **dict(_found(root, store))}


def _found(work: Work, store: Store) -> Iterator[tuple[str, Plain]]:
    for node in work.nodes.values():
        single = len(node.iterations) == 1 and node.task.iterator is None
        inputs = node.iterations[0].inputs if single else None
        yield node.path, _engine_seen(node.state, inputs, node.outputs, store)
        for iteration in node.iterations:
            if not single:
                yield iteration.path, _engine_seen(iteration.state, _decided(iteration), iteration.outputs, store)
            yield from _found(iteration, store)


def _decided(work: Work) -> Inputs | None:
    """Return the inputs of an iteration, None if they could not be decided and it failed for that."""
    return work.inputs if work.failure is None or work.inputs != Inputs() else None


def _engine_seen(state: State, inputs: Inputs | None, outputs: Outputs, store: Store) -> Plain:
    return {
        "state": "SUCCEEDED" if state is State.CACHED else state.value,
        "inputs": _engine_values(inputs.parameters, inputs.artifacts, store) if inputs is not None else None,
        "outputs": _engine_values(outputs.parameters, outputs.artifacts, store),
    }


def _engine_values(parameters: Mapping[str, Any], artifacts: Mapping[str, Any], store: Store) -> Plain:
    return {
        "parameters": {name: _without_message(value) for name, value in parameters.items()},
        "artifacts": {name: [_engine_thing(item, store) for item in items] for name, items in artifacts.items()},
    }


def _without_message(value: Any) -> Any:
    """Return a value as it is, but a final status without the words of its error: those are for people."""
    if isinstance(value, dict) and value.keys() == {"state", "pipelineTaskName", "pipelineJobResourceName", "error"}:
        return {**value, "error": {}}
    return value


def _engine_thing(item: Artifact, store: Store) -> Plain:
    path = store.path(item.digest) if item.digest else None
    where = item.uri if path is None else ""
    return {"type": item.type.schema_title, "content": content(path), "uri": where, "metadata": dict(item.metadata)}


def disagreements(oracle: Interpreter, whole: Seen, graph: Graph, store: Store) -> list[str]:
    """Return a line for everything that the engine and the oracle see differently: nothing, if the engine is right."""
    ours = found(graph, store)
    theirs = {"": expected(whole), **{path: expected(seen) for path, seen in oracle.tasks.items()}}
    lines = []
    for path in sorted(ours.keys() | theirs.keys()):
        if path not in ours or path not in theirs:
            lines.append(f"{path}: only {'the oracle' if path in theirs else 'the engine'} has it")
            continue
        for what in ("state", "inputs", "outputs"):
            left, right = _comparable(ours[path][what]), _comparable(theirs[path][what])
            if left != right:
                lines.append(f"{path}: {what}: the engine has {left}, the oracle {right}")
    return lines


def _comparable(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def off_record(database: Database, run: str, graph: Graph) -> list[str]:
    """Return a line for every task whose row in the database says something else than the graph does."""
    lines = []
    rows = {row["path"]: row for row in database.query("SELECT * FROM tasks WHERE run=?", (run,))}
    for path, state, inputs, outputs in _rows(graph.root):
        row = rows.pop(path, None)
        if row is None:
            lines.append(f"{path}: is not in the database")
            continue
        kept = {"state": row["state"], "outputs": json.loads(row["outputs"] or "{}")}
        true = {"state": state.value, "outputs": outputs.as_json()}
        if inputs is not None and row["inputs"] is not None:
            kept["inputs"] = json.loads(row["inputs"])["parameters"]
            true["inputs"] = dict(inputs.parameters)
        if _comparable(kept) != _comparable(true):
            lines.append(f"{path}: the database has {_comparable(kept)}, the graph {_comparable(true)}")
    return [*lines, *(f"{path}: is in the database only" for path in rows)]


def _rows(work: Work) -> Iterator[tuple[str, State, Inputs | None, Outputs]]:
    """Yield what must be in the database: every task, and the iterations of a loop over a leaf."""
    for node in work.nodes.values():
        leaf = not isinstance(node.component.implementation, Dag)
        if node.task.iterator is None and len(node.iterations) == 1 and leaf:
            yield node.path, node.state, node.iterations[0].inputs, node.outputs
            continue
        yield node.path, node.state, None, node.outputs
        for iteration in node.iterations:
            if leaf or iteration.failure is not None:
                yield iteration.path, iteration.state, iteration.inputs, iteration.outputs
            yield from _rows(iteration)
