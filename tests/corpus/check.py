"""One pipeline of the corpus: run it, let the oracle judge it, and say in a row what came of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from intermodal.engine.database import Database
from intermodal.engine.failure import Failure
from intermodal.engine.graph import Graph
from intermodal.engine.options import Options
from intermodal.engine.platform import ConfigFolders
from intermodal.engine.resources import Demand
from intermodal.engine.runner import Runner
from intermodal.engine.session import Request, Session
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.errors import IntermodalError
from intermodal.settings import Settings
from intermodal.spec.load import build_pipeline
from intermodal.spec.types import ParameterType, Pipeline
from tests.corpus.engine import WatchedBackend
from tests.corpus.facts import BUCKET, SECRETS, Fact
from tests.corpus.images import model_files
from tests.corpus.replay import Replay
from tests.oracle.agreement import disagreements, off_record
from tests.oracle.interpreter import Interpreter
from tests.oracle.leaf import Thing, Values

_LONGEST_RUN = 900.0
_LARGE = Demand(cpus=64.0, memory=2**40, gpus=8)
"""What a pipeline may ask for that is run on any machine."""
_BY_TYPE: Mapping[ParameterType, Any] = {
    ParameterType.STRING: "text",
    ParameterType.INTEGER: 3,
    ParameterType.DOUBLE: 1.5,
    ParameterType.BOOLEAN: True,
    ParameterType.LIST: ["a", "b"],
    ParameterType.STRUCT: {"key": 1},
}
"""Required arguments that `facts` does not give."""


@dataclass(frozen=True)
class Row:
    """What came of a pipeline. `words` say what is wrong, or what was refused."""

    path: str
    verdict: str
    """right, wrong or refused."""
    state: str
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)
    """What stood in for something, and how the containers were relaxed."""
    tasks: int = 0


class _Observer:
    def __init__(self) -> None:
        self.failures: dict[str, Failure] = {}

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None:
        if failure is not None:
            self.failures[path] = failure

    def line(self, path: str, line: bytes) -> None:
        pass


def check(corpus: Path, path: str, fact: Fact, folder: Path) -> Row:
    """Run the pipeline at `path` of the corpus in `folder` (a run's own) beside the state folder, and judge it."""
    notes = notes_of(fact)
    documents = read_documents(corpus / path, fact.runtime)
    try:
        pipeline = build_pipeline(*documents)
        trial = Trial(pipeline, documents[0], fact, folder)
        trial.run()
    except IntermodalError as error:
        return refusal(path, fact, "refused", (error.message,), notes)
    if fact.refused:
        return refusal(path, fact, trial.state, trial.failures, notes)
    problems = trial.problems()
    verdict = "wrong" if problems else "right"
    return Row(path, verdict, trial.state, tuple(problems), notes, trial.tasks)


def refusal(path: str, fact: Fact, state: str, words: tuple[str, ...], notes: tuple[str, ...]) -> Row:
    """A refusal is right only where nothing can stand in, and only if it names what is missing."""
    named = bool(fact.refused) and any(fact.refused in text for text in words) and state != "SUCCEEDED"
    return Row(path, "refused" if named else "wrong", state, words, notes)


def notes_of(fact: Fact) -> tuple[str, ...]:
    """Return what stands in for something, and how the containers are relaxed."""
    found = [fact.standin] if fact.standin else []
    if fact.runtime:
        found.append(f"KFP runtime {fact.runtime}: the pinned one lacks what it uses")
    if fact.shared:
        found.append("relaxed: a folder that steps share")
    if fact.any_machine:
        found.append("relaxed: resources that this machine may not have")
    return tuple(found)


def read_documents(path: Path, runtime: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the PipelineSpec and the PlatformSpec of a file, with another KFP runtime pinned if there is one."""
    text = path.read_text(encoding="utf-8")
    if runtime:
        text = re.sub(r"kfp==[0-9.]+", f"kfp=={runtime}", text)
    found = [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]
    spec = found[0].get("pipelineSpec", found[0])
    return spec, next((document for document in found[1:] if "platforms" in document), {})


class Trial:
    """One run on the engine and its judgement."""

    def __init__(self, pipeline: Pipeline, document: dict[str, Any], fact: Fact, folder: Path) -> None:
        self._pipeline = pipeline
        self._document = document
        self._fact = fact
        self._folder = folder
        self._files: dict[str, Path] = {}
        self.observer = _Observer()
        self.backend = WatchedBackend(fact, folder)
        self.state = ""
        self._runner: Runner | None = None
        self._options = Options(
            cache=False,
            grace=1.0,
            timeout=_LONGEST_RUN,
            configs=ConfigFolders(_folders(folder / "secrets", SECRETS), folder / "config-maps"),
            places=tuple(self._objects().items()),
        )

    def _objects(self) -> dict[str, Path]:
        return {uri: _file(self._folder / "bucket" / uri.rpartition("/")[2], text) for uri, text in BUCKET.items()}

    @property
    def graph(self) -> Graph:
        """What the engine made of the run."""
        assert self._runner is not None
        return self._runner.graph

    @property
    def store(self) -> Path:
        return self._state / "store"

    @property
    def failures(self) -> tuple[str, ...]:
        return tuple(f"{task}: {failure.message}" for task, failure in self.observer.failures.items())

    @property
    def tasks(self) -> int:
        return len(self.backend.seen)

    def run(self) -> None:
        """Run it. Raises IntermodalError where the engine refuses."""
        request = Request(self._pipeline, self.arguments)
        total = _LARGE if self._fact.any_machine else None
        with Session(self._state, self.backend, Settings(), self._options, total) as session:
            self._runner = session.runner(request, self.observer)
            self.state = session.execute(self._runner).state.value

    @property
    def _state(self) -> Path:
        return self._folder.parent / "state"

    @property
    def arguments(self) -> dict[str, Any]:
        root = self._pipeline.root
        given = dict(self._fact.arguments)
        for name, parameter in root.input_parameters.items():
            if not parameter.optional:
                given.setdefault(name, _BY_TYPE.get(parameter.type))
        for name, artifact in root.input_artifacts.items():
            if not artifact.optional:
                self._files[name] = _file(self._folder / "given" / name, f"content of {name}\n")
        return {**given, **{name: str(path) for name, path in self._files.items()}}

    # Judgement

    def problems(self) -> list[str]:
        """Return all that the oracle, or a hand-written expectation, sees otherwise."""
        assert self._runner is not None
        runner, objects = self._runner, self._objects()
        for uri, name in self._fact.images.items():
            objects[f"oci://{uri}"] = self._model(name)
        replay = Replay(self.backend.seen, self._folder, runner.run_id, objects, self._state / "store")
        oracle = Interpreter(self._document, replay, dict(runner.graph.job))
        takes = self._document["root"].get("inputDefinitions", {}).get("artifacts", {})
        things = {name: [Thing(takes[name]["artifactType"]["schemaTitle"], path)] for name, path in self._files.items()}
        parameters = {name: value for name, value in self.arguments.items() if name not in things}
        whole = oracle.run(Values(parameters, things))
        found = disagreements(oracle, whole, runner.graph, Store(self._state / "store"))
        database = Database(self._state / "intermodal.db")
        found += off_record(database, runner.run_id, runner.graph)
        database.close()
        return [*found, *replay.problems, *self._unexpected()]

    def _model(self, name: str) -> Path:
        """Return the content of a stand-in image's /models, taken out without the engine."""
        folder = self._folder / "models"
        if name == "modelcar" and not folder.exists():
            for file, content in model_files().items():
                _file(folder / file, content.decode())
        return folder

    def _unexpected(self) -> list[str]:
        assert self._runner is not None
        root = self._runner.graph.root
        failed = root.state is State.FAILED
        lines = []
        if failed is not self._fact.fails:
            reasons = [f"{path}: {failure.message}" for path, failure in self.observer.failures.items()]
            lines.append(f"ended {root.state}, which it must not: {'; '.join(reasons)}")
        if self._fact.outputs is not None and dict(root.outputs.parameters) != dict(self._fact.outputs):
            lines.append(
                f"gave {json.dumps(dict(root.outputs.parameters))}, expected {json.dumps(dict(self._fact.outputs))}"
            )
        return lines


def _file(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def _folders(root: Path, content: Mapping[str, Mapping[str, str]]) -> Path:
    for name, files in content.items():
        for key, value in files.items():
            _file(root / name / key, value)
    return root
