"""An executor over folders, on this machine's processes or on the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from intermodal.backends.azureml.emulator.execution.executor import JobExecutor
from intermodal.backends.azureml.emulator.execution.host import Options
from intermodal.backends.docker import DockerBackend
from intermodal.engine.backend import Backend
from tests.backends.azureml.emulator.jobs import IMAGE
from tests.backends.azureml.emulator.plane import FolderPlane
from tests.support.host import HostBackend

Start = Callable[..., JobExecutor]


@pytest.fixture
def plane(tmp_path: Path) -> FolderPlane:
    made = FolderPlane(tmp_path / "workspace")
    made.environments["env"] = {"image": IMAGE}
    return made


@pytest.fixture
def start(plane: FolderPlane, tmp_path: Path) -> Iterator[Start]:
    """Make an executor; it is closed at the end."""
    made: list[JobExecutor] = []

    def go(backend: Backend | None = None, **options: object) -> JobExecutor:
        chosen = Options(**{"cores": 4, **options})  # type: ignore[arg-type]
        executor = JobExecutor(plane, backend or HostBackend(), tmp_path / "jobs", chosen)
        executor.prepare()
        made.append(executor)
        return executor

    yield go
    for executor in made:
        executor.close()


@pytest.fixture
def host(start: Start) -> JobExecutor:
    return start()


@pytest.fixture
def engine(start: Start) -> JobExecutor:
    return start(DockerBackend())
