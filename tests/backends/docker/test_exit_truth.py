"""What a container's end is called, on a real engine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from intermodal.engine.backend import Image, Limits
from intermodal.engine.failure import AttemptFailed, FailureClass

pytestmark = pytest.mark.engine

SMALL = Limits(memory=64 * 2**20)
HOG = "bytearray(400 * 2**20)"
CHILD_HOG = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{HOG}'])"


@pytest.mark.parametrize(
    ("command", "code", "kind", "said"),
    [
        (("sh", "-c", "exit 7"), 7, FailureClass.USER_CODE, "exit code 7"),
        (("sh", "-c", "exit 255"), 255, FailureClass.USER_CODE, "exit code 255"),
        (("sh", "-c", "kill -SEGV $$"), 139, FailureClass.USER_CODE, "SIGSEGV"),
        (("sh", "-c", "kill -ABRT $$"), 134, FailureClass.USER_CODE, "SIGABRT"),
        (("sh", "-c", "kill -KILL $$"), 137, FailureClass.KILLED, "SIGKILL"),
        (("/no/such/program",), 127, FailureClass.IMAGE, "/no/such/program"),
        (("/etc/passwd",), 126, FailureClass.IMAGE, "/etc/passwd"),
    ],
)
def test_each_exit_code_has_its_class(docker, command, code, kind, said):
    ended = docker.run(docker.launch(*command))
    assert ended.exit_code == code
    assert ended.failure is not None
    assert ended.failure.kind is kind
    assert said in ended.failure.message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the kernel's log (CI is root)")
def test_a_busy_engine_that_begins_to_watch_too_late_hides_nothing(docker):
    time.sleep(5)  # the kernel tells of ten kills in five seconds and keeps the rest to itself
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    kinds: list[FailureClass | None] = []

    def run(launch):
        failure = docker.run(launch).failure
        kinds.append(failure.kind if failure else None)

    try:
        launches = [docker.code(source, limits=SMALL) for source in [HOG, CHILD_HOG] * 3]
        threads = [threading.Thread(target=run, args=(launch,)) for launch in launches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert kinds == [FailureClass.OOM] * 6


def test_killed_from_outside_is_not_memory(docker):
    launch = docker.code("import time; time.sleep(60)", limits=SMALL)
    handle = docker.backend.start(launch)
    docker.backend.stop(handle, 0)
    ended = docker.backend.wait(handle, launch)
    docker.backend.remove(handle)
    assert ended.exit_code in (137, 143)
    assert ended.failure is not None
    assert ended.failure.kind is FailureClass.KILLED


def test_stopping_what_is_gone_is_no_error(docker):
    docker.backend.stop("0" * 64, 1)
    docker.backend.remove("0" * 64)


def test_a_removed_container_is_a_lost_engine_not_a_success(docker):
    launch = docker.code("import time; time.sleep(60)")
    handle = docker.backend.start(launch)
    threading.Timer(0.5, docker.backend.remove, [handle]).start()
    ended = docker.backend.wait(handle, launch)
    assert ended.failure is not None
    assert ended.failure.kind in (FailureClass.ENGINE_LOST, FailureClass.KILLED)


def test_an_image_that_vanished_is_an_image_failure(docker):
    gone = Image("intermodal/gone:dev", "sha256:" + "0" * 64, "sha256:" + "0" * 64)
    with pytest.raises(AttemptFailed) as caught:
        docker.backend.start(docker.launch("true", image=gone))
    assert caught.value.failure.kind is FailureClass.IMAGE
    assert "intermodal/gone:dev" in caught.value.failure.message


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk (CI is root)")
def test_a_step_that_fails_on_a_full_disk(docker, small_disk):
    (small_disk / "outputs").mkdir()
    source = "open('/kfp/outputs/big', 'wb').write(b'x' * 2**25)"
    ended = docker.run(docker.code(source, attempt_dir=small_disk))
    assert ended.exit_code == 1
    assert ended.failure is not None
    assert ended.failure.kind is FailureClass.DISK_FULL


def test_a_log_that_finds_no_room_is_no_success(docker):
    lines: list[bytes] = []
    ended = docker.run(docker.launch("echo", "hello", log=Path("/dev/full")), lines.append)
    assert ended.exit_code == 0
    assert ended.failure is not None
    assert ended.failure.kind is FailureClass.DISK_FULL
    assert lines == [b"hello"]


def test_a_log_that_cannot_be_made_is_no_success(docker):
    ended = docker.run(docker.launch("echo", "hello", log=docker.state / "none" / "log"))
    assert ended.failure is not None
    assert ended.failure.kind is FailureClass.ENGINE_LOST
    assert "none/log" in ended.failure.message
