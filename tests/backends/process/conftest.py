"""The process backend in a tiny project."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intermodal.backends.process import ProcessBackend
from intermodal.testing.attempts import Attempts
from tests.backends.project import make_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "pro ject")


@pytest.fixture
def process(project: Path, tmp_path: Path, environments: Path) -> Iterator[Attempts]:
    state = tmp_path / "state"
    state.mkdir()
    backend = ProcessBackend(project=project, state_dir=state)
    backend.prepare(state)
    (state / "envs").symlink_to(environments)  # made once for all tests
    runner = Attempts(backend, state, backend.resolve_image("intermodal/echo:dev"), "python")
    yield runner
    backend.cleanup(runner.run_id)
