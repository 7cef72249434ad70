"""One real `mlflow server` for all tests of tracking, a relay before it that can break, and the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler
from mlflow import MlflowClient
from mlflow.entities import Run

from intermodal.tracking.rest import Client
from intermodal.tracking.server import ensure_server, stop_server
from tests.backends.project import make_project
from tests.tracking import pipelines
from tests.tracking.made import Made
from tests.tracking.relay import Relay

SECRET = "s3cr3t-of-a-step"
PACKAGE = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in a git checkout, with the compiled pipelines and a file of data."""
    root = make_project(tmp_path_factory.mktemp("tracked") / "project")
    for pipeline in (pipelines.study, pipelines.patient, pipelines.doomed):
        compiler.Compiler().compile(pipeline, str(root / f"{pipeline.name}.yaml"))
    (root / "data.txt").write_text("data\n")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a state folder, `tracking`."""
    return tmp_path_factory.mktemp("server") / "tracking"


@pytest.fixture(scope="session")
def server(server_folder: Path) -> Iterator[str]:
    """The address of a server that holds nothing yet."""
    yield ensure_server(server_folder).uri
    stop_server(server_folder)


@pytest.fixture
def relay(server: str) -> Iterator[Relay]:
    relay = Relay(int(server.rpartition(":")[2]))
    yield relay
    relay.close()


@dataclass
class Lab:
    """One state folder, and the real command in it."""

    project: Path
    state: Path
    uri: str
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def environment(self, **more: str) -> dict[str, str]:
        given = {"MLFLOW_TRACKING_URI": self.uri, "INTERMODAL_TRACKING": "on", "PYTHONPATH": str(PACKAGE), **more}
        return {name: value for name, value in {**os.environ, **given}.items() if value}

    def start(self, verb: str, *words: str, **more: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "intermodal", verb, "--state", str(self.state), *words],
            cwd=self.project,
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.children.append(child)
        return child

    def do(self, verb: str, *words: str, code: int = 0, **more: str) -> str:
        """Run the command to its end and return what it prints on stdout."""
        child = self.start(verb, *words, **more)
        out, error = child.communicate(timeout=240)
        assert child.returncode == code, f"{out}\n{error}"
        return out

    def run(self, name: str, *words: str, code: int = 0, **more: str) -> dict[str, Any]:
        """Run a pipeline and return the result that the command prints."""
        words = (str(self.project / f"{name}.yaml"), "--backend", "process", "--json", *words)
        document: dict[str, Any] = json.loads(self.do("run", *words, code=code, **more))
        return document

    def sync(self, *runs: str) -> None:
        self.do("tracking", "sync", *runs)

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()


@pytest.fixture
def lab(project: Path, server: str, tmp_path: Path, environments: Path) -> Iterator[Lab]:
    state = tmp_path / "state"
    state.mkdir()
    (state / "envs").symlink_to(environments)
    (state / "secrets/keys").mkdir(parents=True)
    (state / "secrets/keys/token").write_text(SECRET)
    lab = Lab(project, state, server)
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("envs")


@dataclass(frozen=True)
class Seen:
    """The MLflow runs of one run, by their key without the run's id."""

    runs: dict[str, Run]

    @property
    def statuses(self) -> dict[str, str]:
        return {key: run.info.status for key, run in self.runs.items()}

    def tag(self, key: str, name: str) -> str | None:
        return self.runs[key].data.tags.get(f"intermodal.{name}")

    def parent(self, key: str) -> str | None:
        ids = {run.info.run_id: key for key, run in self.runs.items()}
        return ids.get(self.runs[key].data.tags.get("mlflow.parentRunId", ""))


See = Callable[[str], Seen]


@pytest.fixture(scope="session")
def client(server: str) -> MlflowClient:
    return MlflowClient(server)


@pytest.fixture
def made(client: MlflowClient) -> Made:
    return Made(client)


class Counting(Client):
    """The real client; it counts what it asks."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri, {}, 60.0)
        self.asked: list[str] = []
        self.answered = 0

    def call(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        answer = super().call(method, path, body, **query)
        self.asked.append(path)
        self.answered += len(answer.get("runs", ()))
        return answer


@pytest.fixture
def rest(server: str) -> Counting:
    return Counting(server)


@pytest.fixture(scope="session")
def see(client: MlflowClient) -> See:
    """Look, with MLflow's own client, at what the server has of a run. Fails if a key is there twice."""

    def look(run: str) -> Seen:
        experiments = [item.experiment_id for item in client.search_experiments()]
        found = client.search_runs(experiments, f"tags.`intermodal.run` = '{run}'", max_results=1000)
        counts = Counter(item.data.tags["intermodal.key"] for item in found)
        assert set(counts.values()) <= {1}, counts
        return Seen({item.data.tags["intermodal.key"].removeprefix(run): item for item in found})

    return look


def wait_until(what: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.5)  # the server has others to answer
