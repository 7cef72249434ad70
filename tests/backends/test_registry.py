"""Backends that other packages give, as the command finds them; broken ones are one clear line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import compiler, dsl

from tests.engine.steps import say
from tests.support.plugin import install

ROOT = Path(__file__).parents[2]


@dsl.pipeline(name="hello")
def hello(text: str = "hello") -> str:
    return say(text=text).output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    compiler.Compiler().compile(hello, str(tmp_path / "hello.yaml"))
    (tmp_path / "pyproject.toml").write_text("")
    return tmp_path


def intermodal(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    places = os.pathsep.join([str(folder / "site"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "intermodal", *arguments],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": places, **environment},
    )  # fmt: skip


def test_a_backend_that_does_not_exist_is_named_with_those_that_do(folder: Path):
    install(folder / "site", "acme-cluster", "", "[intermodal.backends]\ncluster = acme_cluster:make\n")
    for done in (
        intermodal(folder, "run", "hello.yaml", "--backend", "clustre"),
        intermodal(folder, "run", "hello.yaml", INTERMODAL_BACKEND="clustre"),
    ):
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "error: there is no backend 'clustre'",
            "hint: there are docker, process, host, cluster",
        ]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('two\\nlines')", "cannot be loaded: RuntimeError: two lines"),
        ("", "cannot be loaded: AttributeError: module 'acme_cluster' has no attribute 'make'"),
        ("make = 3", "is no factory: acme_cluster:make is a int"),
        ("def make(): pass", "cannot be made: TypeError: make() takes 0 positional arguments but 1 was given"),
        (
            "def make(place): return object()",
            "is not a backend: it lacks adopt, capabilities, cleanup, close, export, image_here, install, name, prepare,",
        ),
        (
            "from intermodal.backends.docker import DockerBackend\ndef make(place): return DockerBackend()",
            "calls itself 'docker'",
        ),
        (
            "from intermodal.backends.docker import DockerBackend\n"
            "class make(DockerBackend):\n  name, capabilities = 'cluster', {}\n  def __init__(self, place): pass",
            "declares no Capabilities",
        ),
    ],
)
def test_a_broken_package_is_one_line_that_names_it(folder: Path, module: str, said: str):
    install(folder / "site", "acme-cluster", module, "[intermodal.backends]\ncluster = acme_cluster:make\n", "2.5")
    done = intermodal(folder, "run", "hello.yaml", "--backend", "cluster")
    assert done.returncode == 3, done
    assert done.stderr.splitlines()[0].startswith(f"error: backend 'cluster' of package acme-cluster 2.5 {said}")
    assert len(done.stderr.splitlines()) == 2
    assert not (folder / ".intermodal" / "runs").exists()


def test_two_packages_may_not_give_one_name(folder: Path):
    for package in ("acme-one", "acme-two"):
        install(folder / "site", package, "", "[intermodal.backends]\ncluster = x:y\n")
    done = intermodal(folder, "run", "hello.yaml", "--backend", "cluster")
    assert done.returncode == 3
    assert "acme-one 1.0, acme-two 1.0" in done.stderr


def test_a_package_cannot_take_the_place_of_a_built_in_backend(folder: Path):
    install(folder / "site", "acme-docker", "raise SystemExit(9)", "[intermodal.backends]\ndocker = acme_docker:make\n")
    nowhere = f"unix://{folder}/none.sock"
    done = intermodal(folder, "run", "hello.yaml", DOCKER_HOST=nowhere)
    assert done.returncode == 3
    assert nowhere in done.stderr


def test_the_doctor_lists_them_and_says_which_cannot_be_loaded(folder: Path):
    install(folder / "site", "acme-good", "def make(place): ...", "[intermodal.backends]\ngood = acme_good:make\n")
    install(folder / "site", "acme-bad", "import gone", "[intermodal.backends]\nbad = acme_bad:make\n")
    lines = intermodal(folder, "doctor", DOCKER_HOST=f"unix://{folder}/none.sock").stdout.splitlines()
    backends = [line for line in lines if line[6:13] == "backend"]
    assert backends[0].startswith("warn") and "acme-bad 1.0 cannot be loaded: ModuleNotFoundError" in backends[0]
    assert backends[1].startswith("ok") and "good, of package acme-good 1.0" in backends[1]


def test_options_of_a_backend_that_takes_none_are_refused(folder: Path):
    (folder / "pyproject.toml").write_text("[tool.intermodal.backends.docker]\nspeed = 1\n")
    done = intermodal(folder, "run", "hello.yaml")
    assert done.returncode == 2
    assert "[tool.intermodal.backends.docker]" in done.stderr
