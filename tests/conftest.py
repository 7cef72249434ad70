"""Fixtures for all tests: a state folder, and a way to run a pipeline on the host backend."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from intermodal.engine.database import Database
from intermodal.engine.failure import Failure
from intermodal.engine.options import Options
from intermodal.engine.session import Request, Result, Session
from intermodal.engine.states import State
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from tests.support.host import HostBackend

_HERE = Path(__file__).parent

os.environ["INTERMODAL_TRACKING"] = (
    "off"  # a server for each state folder would be many; the tests of tracking ask for it
)
settings.register_profile("any machine", deadline=None)  # a busy one is no failure
settings.load_profile("any machine")


SLOW = (
    "backends/azureml/emulator",
    "backends/azureml/test_compile.py",
    "backends/azureml/test_random.py",
    "backends/azureml/test_submit.py",
    "backends/kubeflow",
    "backends/process",
    "backends/test_contract.py",
    "backends/test_example.py",
    "backends/test_registry.py",
    "cli/test_azureml.py",
    "components/hpo/test_workers.py",
    "backup",
    "cli/test_ci.py",
    "cli/test_live.py",
    "cli/test_logs.py",
    "cli/test_readings.py",
    "cli/test_upkeep.py",
    "crash",
    "docs/test_pages.py",
    "docs/test_site.py",
    "engine/test_packages.py",
    "engine/test_plan.py",
    "engine/test_requirements.py",
    "jobs/test_assets.py",
    "jobs/test_waiting.py",
    "oracle/test_random.py",
    "test_pytest_plugin.py",
    "tracking/test_find.py",
    "tracking/test_index.py",
    "tracking/test_index_database.py",
    "tracking/test_registry.py",
    "tracking/test_registry_trouble.py",
    "tracking/test_tree.py",
    "tracking/test_trouble.py",
    "tracking/test_turns.py",
    "trust",
)
"""What `make test-fast` leaves to `make test`: it starts many processes, waits, or draws many examples."""


TOGETHER = ("backends/azureml", "components", "engine", "jobs")
"""Tests with an engine that get on with others beside them. All others run alone: they measure, kill, fill disks, count containers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        path = item.path.relative_to(_HERE).as_posix() if item.path.is_relative_to(_HERE) else ""
        if _is_in(path, SLOW):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("browser") or (item.get_closest_marker("engine") and not _is_in(path, TOGETHER)):
            item.add_marker(pytest.mark.alone)


def _is_in(path: str, names: tuple[str, ...]) -> bool:
    return any(path == name or path.startswith(f"{name}/") for name in names)


@dataclass
class Recorder:
    """An observer that keeps what it was told."""

    states: dict[str, list[State]] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    lines: list[tuple[str, bytes]] = field(default_factory=list)

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None:
        self.states.setdefault(path, []).append(state)
        if failure is not None:
            self.failures[path] = failure

    def line(self, path: str, line: bytes) -> None:
        self.lines.append((path, line))


@dataclass
class Ran:
    """A finished run and what was seen of it."""

    result: Result
    recorder: Recorder
    backend: HostBackend
    state: Path

    @property
    def states(self) -> dict[str, str]:
        """Task path -> final state."""
        return {path: seen[-1].value for path, seen in self.recorder.states.items()}

    def tasks(self) -> dict[str, Any]:
        """Return the record's task rows by path."""
        database = Database(self.state / "intermodal.db")
        rows = database.query("SELECT * FROM tasks WHERE run=?", (self.result.run_id,))
        database.close()
        return {row["path"]: dict(row) for row in rows}

    def digests_of(self, path: str) -> dict[str, str]:
        """Return the digests of a task's output artifacts by name (the first of a list)."""
        outputs = json.loads(self.tasks()[path]["outputs"])["artifacts"]
        return {name: items[0]["digest"] for name, items in outputs.items()}


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def python_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Python components need, fetched once for all tests."""
    return tmp_path_factory.mktemp("python")


@pytest.fixture
def run(tmp_path: Path, python_folder: Path) -> Run:
    """Run a KFP pipeline function (or IR file) on the host backend with real processes."""

    def go(
        pipeline: Any, *, backend: HostBackend | None = None, options: Options | None = None, **arguments: Any
    ) -> Ran:
        path = pipeline
        if not isinstance(pipeline, Path):
            from kfp import compiler

            path = tmp_path / f"{pipeline.name}.yaml"
            compiler.Compiler().compile(pipeline, str(path))
        backend = backend or HostBackend()
        recorder = Recorder()
        state = tmp_path / "state"
        if not state.exists():
            state.mkdir()
            (state / "python").symlink_to(python_folder)
        with Session(state, backend, Settings(), options or Options(grace=1.0)) as session:
            runner = session.runner(Request(load_pipeline(path), arguments), recorder)
            result = session.execute(runner)
        return Ran(result, recorder, backend, state)

    return go
