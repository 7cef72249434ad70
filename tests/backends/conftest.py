"""A real engine and a small real image; a folder of environments for processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from intermodal.backends.docker import DockerBackend
from intermodal.engine.backend import Image
from intermodal.testing.attempts import Attempts

BASE = "intermodal/base:dev"


@pytest.fixture(scope="session")
def session_docker() -> Iterator[DockerBackend]:
    backend = DockerBackend()
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def docker_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="session")
def base_image(session_docker: DockerBackend, docker_state: Path) -> Image:
    session_docker.prepare(docker_state)
    return session_docker.resolve_image(BASE)


@pytest.fixture
def docker(session_docker: DockerBackend, base_image: Image, tmp_path: Path) -> Iterator[Attempts]:
    """A Docker backend with a state folder of the test's own; nothing of it is left afterwards."""
    session_docker.prepare(tmp_path)
    runner = Attempts(session_docker, tmp_path, base_image, "python3")
    yield runner
    session_docker.cleanup(runner.run_id)


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Environments of the process backend, made once for all tests."""
    return tmp_path_factory.mktemp("envs")
