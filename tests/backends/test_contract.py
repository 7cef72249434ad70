"""The contract, kept by every backend of this project. Real processes, real containers."""

from pathlib import Path

import pytest

from intermodal.backends.docker import DockerBackend
from intermodal.backends.process import ProcessBackend
from intermodal.engine.backend import Backend
from intermodal.testing import HostBackend
from intermodal.testing.conformance import BackendConformance
from tests.backends.project import make_project


@pytest.fixture(scope="module")
def contract_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("pro ject"))


class TestHost(BackendConformance):
    image = "any"

    def make_backend(self, state: Path) -> Backend:
        return HostBackend()


class TestProcess(BackendConformance):
    image = "intermodal/echo:dev"
    python = "python"

    @pytest.fixture(autouse=True)
    def _project(self, contract_project: Path, environments: Path) -> None:
        self.project, self.environments = contract_project, environments

    def make_backend(self, state: Path) -> Backend:
        if not (state / "envs").exists():
            (state / "envs").symlink_to(self.environments)  # made once for all tests
        return ProcessBackend(project=self.project, state_dir=state)


@pytest.mark.engine
class TestDocker(BackendConformance):
    image = "intermodal/base:dev"

    def make_backend(self, state: Path) -> Backend:
        return DockerBackend()
