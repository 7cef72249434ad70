"""The fixture that runs a pipeline twice: by the engine on real processes, and by the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from intermodal.engine.database import Database
from intermodal.engine.graph import Graph
from intermodal.engine.options import Options
from intermodal.engine.session import Request, Session
from intermodal.engine.store import Store
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from tests.conftest import Recorder
from tests.oracle.agreement import disagreements, found, off_record
from tests.oracle.executors import LocalExecutor, Program
from tests.oracle.interpreter import Interpreter
from tests.oracle.leaf import Thing, Values
from tests.support.host import HostBackend


@dataclass
class Agreed:
    """What both say of a run: each task by its path, as `agreement.found` gives it; the pipeline itself is ''."""

    tasks: dict[str, Any]
    failures: dict[str, str]
    graph: Graph

    @property
    def states(self) -> dict[str, str]:
        return {path: task["state"] for path, task in self.tasks.items()}

    @property
    def outputs(self) -> dict[str, Any]:
        """The pipeline's output parameters."""
        return dict(self.tasks[""]["outputs"]["parameters"])

    def given(self, path: str) -> dict[str, Any]:
        """The input parameters of a task."""
        return dict(self.tasks[path]["inputs"]["parameters"])


Agree = Callable[..., Agreed]


@pytest.fixture
def agree(tmp_path: Path) -> Agree:
    """Run a pipeline (a KFP function, or IR as a dictionary) by engine and oracle, and fail where they differ.

    An argument that is a Path is an artifact.
    """

    def go(
        pipeline: Any,
        *,
        program: Program | None = None,
        backend: HostBackend | None = None,
        options: Options | None = None,
        **arguments: Any,
    ) -> Agreed:
        path = tmp_path / "pipeline.yaml"
        if isinstance(pipeline, Mapping):
            path.write_text(json.dumps(pipeline), encoding="utf-8")
        else:
            from kfp import compiler

            compiler.Compiler().compile(pipeline, str(path))
        options = options or Options(cache=False, grace=1.0)
        return both(path, arguments, tmp_path, backend or HostBackend(), options, program)

    return go


def both(
    path: Path,
    arguments: Mapping[str, Any],
    folder: Path,
    backend: HostBackend,
    options: Options,
    program: Program | None = None,
) -> Agreed:
    """Run the IR at `path` twice, compare, and return what came of it."""
    recorder, loaded = Recorder(), load_pipeline(path)
    state = folder / "state"
    with Session(state, backend, Settings(), options) as session:
        runner = session.runner(Request(loaded, arguments), recorder)
        session.execute(runner)
    document = next(part for part in yaml.safe_load_all(path.read_text(encoding="utf-8")) if part)
    document = document.get("pipelineSpec", document)
    oracle = Interpreter(
        document, LocalExecutor(folder / runner.run_id, program), dict(runner.graph.job), options.success_word
    )
    takes = document["root"].get("inputDefinitions", {}).get("artifacts", {})
    given = Values(
        {name: value for name, value in arguments.items() if name not in takes and value is not None},
        {
            name: [Thing(takes[name]["artifactType"]["schemaTitle"], value)]
            for name, value in arguments.items()
            if name in takes and value is not None
        },
    )
    whole = oracle.run(given)
    store = Store(state / "store")
    database = Database(state / "intermodal.db")
    try:
        wrong = [*disagreements(oracle, whole, runner.graph, store), *off_record(database, runner.run_id, runner.graph)]
    finally:
        database.close()
    assert not wrong, "\n".join(wrong)
    tasks = found(runner.graph, store)
    return Agreed(tasks, {path: failure.message for path, failure in recorder.failures.items()}, runner.graph)
