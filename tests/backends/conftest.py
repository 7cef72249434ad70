"""A real engine, a small real image, and a way to run one attempt as the engine would."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from intermodal.backends.docker import DockerBackend
from intermodal.engine.backend import Backend, Exit, Image, Launch, Limits

BASE = "intermodal/base:dev"


@dataclass
class Runner:
    """Runs attempts of one run in one state folder."""

    backend: Backend
    state: Path
    image: Image
    python: str
    run_id: str = field(default_factory=lambda: f"test-{secrets.token_hex(6)}")
    count: int = 0

    def launch(self, *command: str, **changes: Any) -> Launch:
        self.count += 1
        attempt = self.state / "attempts" / str(self.count)
        (attempt / "outputs").mkdir(parents=True)
        settings: dict[str, Any] = {
            "run_id": self.run_id,
            "task": f"task-{self.count}",
            "attempt": 1,
            "image": self.image,
            "command": command,
            "args": (),
            "env": {},
            "mounts": (),
            "attempt_dir": attempt,
            "log": self.state / f"{self.count}.log",
            "limits": Limits(memory=256 * 2**20),
        }
        return Launch(**settings | changes)

    def code(self, source: str, **changes: Any) -> Launch:
        return self.launch(self.python, "-c", source, **changes)

    def run(self, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        handle = self.backend.start(launch)
        try:
            return self.backend.wait(handle, launch, on_line)
        finally:
            self.backend.remove(handle)


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
def docker(session_docker: DockerBackend, base_image: Image, tmp_path: Path) -> Iterator[Runner]:
    """A Docker backend with a state folder of the test's own; nothing of it is left afterwards."""
    session_docker.prepare(tmp_path)
    runner = Runner(session_docker, tmp_path, base_image, "python3")
    yield runner
    session_docker.cleanup(runner.run_id)


@pytest.fixture
def host_python() -> str:
    return sys.executable
