"""A disk that fills up: named as such, nothing half-written taken for a result, and `resume` goes on once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash import pipelines
from tests.crash.case import Case

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk (CI is root)")

BACKENDS = ["process", pytest.param("docker", marks=pytest.mark.engine)]
MIB = 2**20


class Disk:
    """A disk of a few MiB at `path`."""

    def __init__(self, path: Path, mib: int) -> None:
        self.path = path
        path.mkdir(parents=True)
        self._mount("-t", "tmpfs", "-o", f"size={mib}m", "intermodal-test")

    def grow(self, mib: int) -> None:
        self._mount("-o", f"remount,size={mib}m")

    def fill(self) -> Path:
        """Leave no room at all; return the file that takes it."""
        ballast = self.path / "ballast"
        with ballast.open("wb", buffering=0) as stream:
            for size in (MIB, 1024, 1):
                try:
                    while True:
                        stream.write(b"\0" * size)
                except OSError:
                    continue
        return ballast

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self.path)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


@pytest.fixture
def make_disk() -> Iterator[Callable[[Path, int], Disk]]:
    disks: list[Disk] = []

    def make(path: Path, mib: int) -> Disk:
        disks.append(Disk(path, mib))
        return disks[-1]

    yield make
    for disk in reversed(disks):
        disk.unmount()


def check_ended(case: Case) -> None:
    """The run is green, and its one artifact is in the store, whole, and nothing else is."""
    assert case.recorded()["state"] == "SUCCEEDED"
    (entry,) = (case.state / "store").glob("??/*")
    assert (entry / "data").read_bytes() == b"x" * 6 * MIB
    assert case.left_behind() == []
    assert case.ledger()["light end"] == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_while_a_step_writes(backend, make_case, make_disk, tmp_path):
    disk = make_disk(tmp_path / "state" / "runs", 4)
    case = make_case(backend, tmp_path, pipelines.heavy)
    case.let_go()
    done = case.run()
    assert done.returncode == 1
    assert "disk_full: no space left" in done.stderr
    assert case.tasks()["load"][0] == "FAILED"
    assert list((case.state / "store").glob("??/*")) == []
    disk.grow(64)
    done = case.resume()
    assert done.returncode == 0, done.stderr
    check_ended(case)


@pytest.mark.parametrize("backend", BACKENDS)
def test_while_the_store_publishes(backend, make_case, make_disk, tmp_path):
    disk = make_disk(tmp_path / "state" / "store", 4)
    case = make_case(backend, tmp_path, pipelines.heavy)
    case.let_go()
    done = case.run()
    assert done.returncode == 1
    assert "disk_full: no space left" in done.stderr
    assert list((case.state / "store").glob("??/*")) == [] and list((case.state / "store" / "tmp").glob("*")) == []
    disk.grow(64)
    done = case.resume()
    assert done.returncode == 0, done.stderr
    check_ended(case)


@pytest.mark.parametrize("backend", BACKENDS)
def test_while_the_database_writes(backend, make_case, make_disk, tmp_path):
    """The disk of the database alone is full when the step ends: what it did is harvested later, not done again."""
    disk = make_disk(tmp_path / "state", 4)
    for name in ("runs", "store", "volumes"):
        make_disk(tmp_path / "state" / name, 64)
    case = make_case(backend, tmp_path, pipelines.heavy)
    child = case.start("run", *case.running())
    case.wait_for("load begin")
    ballast = disk.fill()
    case.let_go()
    _, error = child.communicate(timeout=60)
    assert child.returncode == 3
    assert "error: " in error and "Traceback" not in error
    assert "the run database cannot be written: database or disk is full" in error
    assert "make room on the disk" in error
    ballast.unlink()
    assert "INTERRUPTED" in case.do("runs").stdout
    done = case.resume()
    assert done.returncode == 0, done.stderr
    check_ended(case)
    assert case.ledger()["load end"] == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_on_one_disk(backend, make_case, make_disk, tmp_path):
    """Whoever comes first meets the full disk: a step, the store, or the database."""
    disk = make_disk(tmp_path / "state", 5)
    case = make_case(backend, tmp_path, pipelines.heavy)
    case.let_go()
    done = case.run()
    assert done.returncode in (1, 3), done.stderr
    assert "disk_full" in done.stderr or "make room" in done.stderr
    disk.grow(64)
    done = case.resume()
    assert done.returncode == 0, done.stderr
    check_ended(case)


def test_from_the_start(make_case, make_disk, tmp_path):
    disk = make_disk(tmp_path / "state", 1)
    case = make_case("process", tmp_path, pipelines.heavy)
    ballast = disk.fill()
    done = case.run()
    assert done.returncode == 3
    assert done.stderr.count("\n") == 2 and "error: no space left on the disk" in done.stderr, done.stderr
    ballast.unlink()
