"""A tiny project with one step, whose lock is empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intermodal.backends.process import ProcessBackend
from tests.backends.support import Runner

DOCKERFILE = """
FROM scratch AS builder
COPY components/__init__.py components/kfp_io.py /app/components/
COPY components/ner /app/components/ner
COPY components/echo /app/components/echo
FROM scratch
LABEL io.intermodal.component="components/echo" \\
      io.intermodal.lock="components/echo/requirements.txt"
COPY --from=builder components/other /app
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "pro ject"
    for name, content in {
        "pyproject.toml": "",
        "images/echo/Dockerfile": DOCKERFILE,
        "components/__init__.py": "",
        "components/kfp_io.py": "",
        "components/ner/__init__.py": "",
        "components/echo/__init__.py": "",
        "components/echo/__main__.py": "import sys\nprint('echo', *sys.argv[1:])\n",
        "components/echo/requirements.txt": "",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("envs")


@pytest.fixture
def process(project: Path, tmp_path: Path, environments: Path) -> Iterator[Runner]:
    state = tmp_path / "state"
    state.mkdir()
    backend = ProcessBackend(project=project, state_dir=state)
    backend.prepare(state)
    (state / "envs").symlink_to(environments)  # made once for all tests
    runner = Runner(backend, state, backend.resolve_image("intermodal/echo:dev"), "python")
    yield runner
    backend.cleanup(runner.run_id)
