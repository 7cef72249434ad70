"""The engine's daemon is restarted under a running step: a second daemon, of the test's own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker
import pytest

from tests.crash import pipelines
from tests.crash.case import Case

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("dockerd"), reason="only root can start a daemon (CI is root)"
    ),
]


class Daemon:
    """A Docker daemon in a folder: its socket, its images, its containers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/socket"
        self._process: subprocess.Popen[bytes] | None = None

    def up(self, *flags: str) -> None:
        places = [f"--{name}={self.folder}/{name}" for name in ("data-root", "exec-root", "pidfile")]
        # In a network namespace of its own: a daemon told to have no bridge removes the one that another daemon uses.
        command = ["unshare", "--net", "dockerd", *places, "--bridge=none", "--iptables=false", "-H", self.address]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, *flags], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                with closing(docker.DockerClient(self.address)) as client:
                    client.ping()
                    return
            except docker.errors.DockerException:
                assert time.monotonic() < deadline and self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)

    def load(self, image: str) -> None:
        """Take an image from the engine that everybody uses."""
        saved = subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE, env=without_host())
        environment = {**os.environ, "DOCKER_HOST": self.address}
        subprocess.run(
            ["docker", "load", "--quiet"], stdin=saved.stdout, env=environment, check=True, capture_output=True
        )
        assert saved.wait() == 0

    def down(self) -> None:
        """Stop the daemon as a system does that restarts it."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(60)

    def crash(self) -> None:
        """Kill the daemon, and the containerd and the shims of containers that it started."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.folder) in (entry / "cmdline").read_text():
                    os.kill(int(entry.name), signal.SIGKILL)
        # Where nobody reaps what has lost its parent, a dead containerd looks alive to the daemon that comes next.
        for pidfile in (self.folder / "exec-root" / "containerd" / "containerd.pid", self.folder / "pidfile"):
            pidfile.unlink(missing_ok=True)


def without_host() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Daemon]:
    """A daemon with the base image; it is down."""
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="intermodal-daemon-")))
    daemon.up()
    daemon.load("intermodal/base:dev")
    daemon.down()
    yield daemon
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((place for place in mounted if place.startswith(str(daemon.folder))), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=True)  # what a crash left
    shutil.rmtree(daemon.folder)


@pytest.fixture
def daemon(engine: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The daemon that the test and its commands use; the test starts it, and it goes down with nothing left."""
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    yield engine
    with closing(docker.DockerClient(engine.address)) as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True)
    engine.down()


def loading(case: Case) -> subprocess.Popen[str]:
    child = case.start("run", *case.running())
    case.wait_for("load begin")
    return child


def check_green(case: Case) -> None:
    assert case.recorded()["state"] == "SUCCEEDED"
    assert case.ledger()["light end"] == case.ledger()["load end"] == 1
    assert case.left_behind() == []


def test_restarted_under_a_run(make_case, daemon, tmp_path):
    """The step ends with the daemon: the run says so, and resume does the step again; so it does if the runner died first."""
    daemon.up()
    case = make_case("docker", tmp_path, pipelines.heavy)
    child = loading(case)
    daemon.down()
    daemon.up()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "engine_lost: the Docker engine was restarted and the step ended with it" in error
    child = case.start("resume")
    case.wait_for("load begin", 2)
    child.kill()
    child.communicate()
    daemon.down()
    daemon.up()
    case.let_go()
    done = case.resume()
    assert done.returncode == 0, done.stderr
    check_green(case)


def test_crashed_under_a_run(make_case, daemon, tmp_path):
    daemon.up()
    case = make_case("docker", tmp_path, pipelines.heavy)
    child = loading(case)
    daemon.crash()
    daemon.up()
    case.let_go()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "engine_lost: the Docker engine" in error
    done = case.resume()
    assert done.returncode == 0, done.stderr
    check_green(case)


def test_a_daemon_that_leaves_containers_running_changes_nothing(make_case, daemon, tmp_path):
    daemon.up("--live-restore")
    case = make_case("docker", tmp_path, pipelines.heavy)
    child = loading(case)
    daemon.down()
    daemon.up("--live-restore")
    case.let_go()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 0, error
    assert case.ledger()["load begin"] == 1
    check_green(case)
