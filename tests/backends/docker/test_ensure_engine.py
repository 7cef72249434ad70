"""Using, starting and refusing to start an engine."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from intermodal.backends.docker.client import connect
from intermodal.backends.docker.engine import Machine, _is_debian, ensure_engine
from intermodal.errors import EnvironmentProblem
from tests.support.podman import podman

DEBIAN_ROOT = Machine(root=True, debian=True, configured=False)


@pytest.fixture
def no_engine(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    return tmp_path / "engine.sock"


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.engine
def test_an_engine_that_answers_is_used_without_a_word():
    said: list[str] = []
    assert ensure_engine(said.append)
    assert said == []


@pytest.mark.engine
def test_podman_is_refused_with_the_reason(monkeypatch):
    with podman() as place:
        monkeypatch.setenv("DOCKER_HOST", place)
        with pytest.raises(
            EnvironmentProblem, match=r"is Podman \d+\.\S+, which is not supported: .* proven"
        ) as caught:
            connect()
        assert "--backend process" in (caught.value.hint or "")
        with pytest.raises(EnvironmentProblem, match="is Podman"):
            ensure_engine(print, machine=DEBIAN_ROOT)


@pytest.mark.parametrize(
    "machine",
    [Machine(False, True, False), Machine(True, False, False), Machine(True, True, True)],
    ids=["not root", "not Debian", "another engine is configured"],
)
def test_nothing_is_installed_where_that_was_not_asked_for(no_engine, machine, tmp_path, monkeypatch):
    _program(tmp_path / "bin", "apt-get", f"touch {tmp_path}/called")
    _program(tmp_path / "bin", "dockerd", f"touch {tmp_path}/called")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    said: list[str] = []
    with pytest.raises(EnvironmentProblem, match="no Docker engine answers") as caught:
        ensure_engine(said.append, machine=machine, log=tmp_path / "log")
    assert "BACKEND=process" in (caught.value.hint or "")
    assert said == []
    assert not (tmp_path / "called").exists()


def test_a_failing_apt_is_one_line(no_engine, tmp_path, monkeypatch):
    _program(tmp_path / "bin", "apt-get", "echo 'E: Could not resolve deb.example' >&2; exit 100")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    said: list[str] = []
    with pytest.raises(EnvironmentProblem, match=r"`apt-get update -q` failed: E: Could not resolve deb\.example"):
        ensure_engine(said.append, machine=DEBIAN_ROOT, log=tmp_path / "log")
    assert len(said) == 1
    assert "installing docker.io" in said[0]


def test_a_daemon_that_does_not_start_says_its_last_words(no_engine, tmp_path, monkeypatch):
    _program(
        tmp_path / "bin",
        "dockerd",
        f"echo \"$@\" >> {tmp_path}/flags; echo starting; echo 'failed: no netfilter' >&2; exit 1",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    said: list[str] = []
    with pytest.raises(EnvironmentProblem, match="dockerd does not start: failed: no netfilter"):
        ensure_engine(said.append, machine=DEBIAN_ROOT, log=tmp_path / "log")
    assert said == ["no Docker engine answers: starting dockerd"]
    assert "--iptables=false" in (tmp_path / "flags").read_text()
    assert (tmp_path / "flags").read_text().splitlines()[0] == ""


@pytest.mark.engine
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("dockerd"), reason="only root can start a daemon (CI is root)"
)
def test_a_real_daemon_is_started(no_engine, tmp_path, monkeypatch):
    """A second, private daemon: the first start fails as in a sandbox, the next with fewer features answers.

    In a network namespace of its own: a daemon told to have no bridge removes the one that another daemon uses.
    """
    private = " ".join(
        f"--{name}={tmp_path}/{part}" for name, part in (("data-root", "d"), ("exec-root", "e"), ("pidfile", "pid"))
    )
    real = shutil.which("dockerd")
    script = f'[ $# -gt 0 ] || exit 1\nexec unshare --net {real} {private} --bridge=none -H unix://{no_engine} "$@"'
    _program(tmp_path / "bin", "dockerd", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    said: list[str] = []
    try:
        assert ensure_engine(said.append, machine=DEBIAN_ROOT, log=tmp_path / "log")
        assert said == ["no Docker engine answers: starting dockerd"]
    finally:
        if (tmp_path / "pid").exists():
            pid = int((tmp_path / "pid").read_text())
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("content", "debian"),
    [("ID=debian\n", True), ('ID="linuxmint"\nID_LIKE="ubuntu debian"\n', True), ("ID=fedora\n", False), ("", False)],
)
def test_debian_and_its_children_are_known(tmp_path, content, debian):
    (tmp_path / "os-release").write_text(content)
    assert _is_debian(tmp_path / "os-release") is debian


def test_no_os_release_is_not_debian(tmp_path):
    assert _is_debian(tmp_path / "none") is False
