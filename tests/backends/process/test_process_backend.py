"""Real processes in real environments: same classes of end as in containers, as far as a process can know."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from pathlib import Path, PurePosixPath

import pytest

from intermodal.backends.process import ProcessBackend, supervisor
from intermodal.backends.process.backend import project_root
from intermodal.backends.process.components import read_labels
from intermodal.engine.backend import Limits, Mount, Packages, extended
from intermodal.engine.failure import AttemptFailed, FailureClass
from intermodal.errors import BadInput, EnvironmentProblem
from intermodal.testing.wheels import make_wheel


def test_a_step_runs_by_its_image_name(process):
    lines: list[bytes] = []
    launch = process.launch("python", "-m", "components.echo", args=("a b", "$(id)", ""))
    ended = process.run(launch, lines.append)
    assert ended.failure is None, launch.log.read_text()
    assert lines == [b"echo a b $(id) "]
    assert launch.log.read_bytes() == b"echo a b $(id) \n"


def test_the_environment_is_clean(process, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    launch = process.code("import json, os; print(json.dumps(dict(os.environ)))", env={"GIVEN": "1"})
    assert process.run(launch).failure is None
    seen = json.loads(launch.log.read_text())
    assert "SECRET_OF_THE_CALLER" not in seen
    assert seen["GIVEN"] == "1"
    assert Path(seen["HOME"]).is_relative_to(launch.attempt_dir)
    assert seen["PATH"].startswith(process.image.id)
    left = [path.name for path in (launch.attempt_dir / "process").iterdir()]
    assert sorted(left) == ["exit.json", "handle"]  # no environment on disk, no scratch files
    assert (launch.attempt_dir / "process" / "handle").read_text().isprintable()


def test_only_a_step_that_asks_for_a_gpu_sees_one(process, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/lib64-nvidia")
    code = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('LD_LIBRARY_PATH'))"
    for gpus, seen in ((0, " None\n"), (1, "0,1 /usr/lib64-nvidia\n")):
        launch = process.code(code, limits=Limits(gpus=gpus))
        assert process.run(launch).failure is None
        assert launch.log.read_text() == seen


def test_mounts_are_seen_by_their_paths(process):
    source = process.state / "artifact"
    source.write_text("content")
    volume = process.state / "volume"
    volume.mkdir()
    launch = process.code("pass")
    target = PurePosixPath(launch.attempt_dir) / "inputs" / "data"
    code = (
        f"import json, os; print(open({str(target)!r}).read());"
        "open(json.loads(os.environ['INTERMODAL_MOUNTS'])['/state'] + '/x', 'w').write('kept')"
    )
    mounts = (Mount(source, target), Mount(volume, PurePosixPath("/state"), read_only=False))
    launch = process.launch("python", "-c", code, mounts=mounts, attempt_dir=launch.attempt_dir)
    assert process.run(launch).failure is None, launch.log.read_text()
    assert launch.log.read_text() == "content\n"
    assert (volume / "x").read_text() == "kept"


def test_a_step_outlives_its_starter_and_is_harvested(process, project):
    """A second backend, as a resumed run would have, learns the end of a step that it did not start."""
    launch = process.code("import time; time.sleep(1); print('done'); raise SystemExit(5)")
    handle = process.backend.start(launch)
    other = ProcessBackend(project=project, state_dir=process.state)
    ended = other.wait(handle, launch)
    assert ended.exit_code == 5
    assert launch.log.read_bytes() == b"done\n"


ESCAPE = """
import os, subprocess, sys, time
child = "import os, time; open(os.environ['STEP'] + '/outputs/pid', 'w').write(str(os.getpid())); time.sleep(300)"
# Into a session of its own, and away from its parent.
subprocess.run([sys.executable, "-c", f"import subprocess as s, sys; s.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"])
while not os.path.exists(os.environ["STEP"] + "/outputs/pid") or not open(os.environ["STEP"] + "/outputs/pid").read():
    time.sleep(0.01)
"""


def _escaped(launch) -> int:
    return int((launch.attempt_dir / "outputs/pid").read_text())


def _lives(pid: int) -> bool:
    return supervisor.start_time(pid) is not None


def test_what_a_step_detached_ends_with_it(process):
    launch = process.code(ESCAPE)
    assert process.run(launch).failure is None
    assert not _lives(_escaped(launch))


def test_what_a_step_detached_is_stopped_with_it(process):
    launch = process.code(ESCAPE + "\nprint('ready', flush=True)\ntime.sleep(300)")
    handle = process.backend.start(launch)
    stop = threading.Thread(target=process.backend.stop, args=(handle, 0.2))
    ended = process.wait(handle, launch, lambda line: stop.start() if line == b"ready" else None)
    stop.join()
    process.backend.remove(handle)
    assert ended.failure is not None
    assert ended.failure.kind is FailureClass.KILLED
    assert not _lives(_escaped(launch))


def test_a_step_dies_with_its_supervisor(process):
    launch = process.code(
        "import os, time; open(os.environ['STEP'] + '/outputs/pid', 'w').write(str(os.getpid())); time.sleep(300)"
    )
    handle = process.backend.start(launch)
    pid = launch.attempt_dir / "outputs/pid"
    _await(lambda: pid.exists() and pid.read_text())
    os.kill(int(handle.partition(":")[0]), 9)
    _await(lambda: not _lives(int(pid.read_text())))
    assert process.wait(handle, launch).failure is not None


def _await(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_cleanup_finds_what_a_killed_runner_left(process, project):
    """Steps of the run that another process started are in its folder; a number that is another's by now is left alone."""
    attempts = [process.state / "runs" / process.run_id / "tasks" / name / "attempt-1" for name in ("a", "b")]
    launches = [process.code("import time; time.sleep(300)", attempt_dir=folder) for folder in attempts]
    handles = [process.backend.start(launch) for launch in launches]
    for folder in attempts:
        _await((folder / "process/handle").exists)
    (attempts[1] / "process/handle").write_text(f"{os.getpid()}:{supervisor.start_time(os.getpid())}")
    other = ProcessBackend(project=project, state_dir=process.state)
    assert other.cleanup(process.run_id + "-other") == 0
    assert other.cleanup(process.run_id) == 1
    _await(lambda: not _lives(int(handles[0].partition(":")[0])))
    assert _lives(int(handles[1].partition(":")[0]))
    assert process.backend.cleanup(process.run_id) == 1


def test_a_path_that_only_a_container_can_give_is_refused_where_the_code_knows_no_other(process):
    volume = process.state / "volume"
    volume.mkdir()
    mounts = (Mount(volume, PurePosixPath("/data"), read_only=False),)
    plain = process.backend.resolve_image("python:3.11")
    with pytest.raises(AttemptFailed, match="/data cannot be mounted without a container") as caught:
        process.backend.start(process.code("pass", image=plain, mounts=mounts))
    assert caught.value.failure.kind is FailureClass.IMAGE
    workspace = (Mount(volume, PurePosixPath(volume), read_only=False),)
    assert process.run(process.code("pass", image=plain, mounts=workspace)).failure is None
    assert process.run(process.code("pass", mounts=mounts)).failure is None


def test_a_killed_supervisor_is_no_success(process):
    launch = process.code("import time; time.sleep(2)")
    handle = process.backend.start(launch)
    time.sleep(0.5)
    os.kill(int(handle.partition(":")[0]), 9)
    ended = process.backend.wait(handle, launch)
    assert ended.exit_code is None
    assert ended.failure is not None
    assert ended.failure.kind is FailureClass.ENGINE_LOST


def test_identity_follows_code_shared_code_and_lock(process, project):
    def digest() -> str:
        return process.backend.resolve_image("intermodal/echo:dev").digest

    first = digest()
    (project / "components/echo/__pycache__").mkdir()
    (project / "components/echo/__pycache__/x.pyc").write_bytes(b"x")
    assert digest() == first
    seen = {first}
    for name in ("components/echo/__main__.py", "components/kfp_io.py", "components/ner/__init__.py"):
        (project / name).write_text("# changed\n")
        seen.add(digest())
    (project / "components/echo/requirements.txt").write_text("# another lock\n")
    seen.add(digest())
    assert len(seen) == 5


def test_an_environment_is_made_once(process):
    ready = Path(process.image.id) / "intermodal-ready"
    stamp = ready.stat().st_mtime_ns
    assert process.backend.resolve_image("intermodal/echo:dev").id == process.image.id
    assert ready.stat().st_mtime_ns == stamp


def test_a_lock_that_cannot_be_installed_is_one_line(process, project):
    (project / "components/echo/requirements.txt").write_text(
        "intermodal-no-such-package==1.0 --hash=sha256:" + "0" * 64 + "\n"
    )
    with pytest.raises(EnvironmentProblem, match=r"intermodal-no-such-package") as caught:
        process.backend.resolve_image("intermodal/echo:dev")
    assert "\n" not in caught.value.message


def test_unknown_images_and_wrong_labels(process, project):
    for reference in ("intermodal/none:dev", "intermodal/python:dev", "tensorflow/tensorflow:2", "intermodal/.."):
        with pytest.raises(EnvironmentProblem, match=reference):
            process.backend.resolve_image(reference)
    (project / "images/echo/Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(BadInput, match=r"io\.intermodal\.component"):
        process.backend.resolve_image("intermodal/echo:dev")
    (project / "images/echo/Dockerfile").write_text(
        "LABEL io.intermodal.component=components/echo io.intermodal.lock='components/gone.txt'"
    )
    with pytest.raises(BadInput, match=r"components/gone\.txt"):
        process.backend.resolve_image("intermodal/echo:dev")


def test_a_plain_python_image_is_a_bare_environment_and_the_notes_say_so(process):
    image = process.backend.resolve_image("registry.example/ubi9/python-311:latest")
    other = process.backend.resolve_image("python:3.11")
    assert process.backend.resolve_image("intermodal/base:dev").id == other.id
    assert (image.id, image.digest) == (other.id, other.digest) != (process.image.id, process.image.digest)
    launch = process.launch("python3", "-c", "import sys; print(sys.prefix)", image=other)
    assert process.run(launch).failure is None
    assert launch.log.read_text().strip() == other.id
    notes = [note for note in process.backend.capabilities.notes if "python:3.11" in note]
    assert notes == [
        f"image python:3.11: its steps run in a bare environment of this machine's Python {platform.python_version()}, "
        "with nothing else of the image"
    ]
    assert not any("python:3.11" in note for note in ProcessBackend.capabilities.notes)


def test_packages_are_installed_over_the_environment(process, tmp_path):
    wheel = make_wheel(
        tmp_path / "wheels", "intermodal-added", "1.0", {"added.py": "V = 1"}, scripts={"added": "added:f"}
    )
    packages = Packages((wheel,), wheel)
    made = process.backend.install(process.image, packages)
    assert made.digest == extended(process.image, packages)
    assert made == process.backend.install(process.image, packages)
    launch = process.launch("sh", "-c", "python -c 'import added' && command -v added", image=made)
    assert process.run(launch).failure is None, launch.log.read_text()
    assert launch.log.read_text().strip() == f"{made.id}/bin/added"
    assert process.run(process.code("import added")).failure is not None


def test_labels_in_all_their_forms():
    text = 'FROM x\nlabel a=1 "b"="two words"\nLABEL c="x y" \\\n  d=4\nRUN echo LABEL e=5\n'
    assert read_labels(text) == {"a": "1", "b": "two words", "c": "x y", "d": "4"}


def test_the_project_is_found_upwards(project):
    assert project_root(project / "components/echo") == project
    with pytest.raises(EnvironmentProblem, match=r"pyproject\.toml"):
        project_root(Path("/proc"))


def test_ctrl_c_in_the_terminal_does_not_reach_a_step(process):
    launch = process.code("import os; print(os.getsid(0) == os.getpgid(0) == os.getpid())")
    assert process.run(launch).failure is None
    assert launch.log.read_text() == "True\n"


def test_a_variable_that_may_be_a_secret_is_in_nothing_that_is_kept(process):
    launch = process.code("import os; assert os.environ['VARIABLE'] == 'value-2c9e'", env={"VARIABLE": "value-2c9e"})
    assert process.run(launch).failure is None
    kept = [path for path in process.state.rglob("*") if path.is_file()]
    assert launch.log in kept and not any(b"value-2c9e" in path.read_bytes() for path in kept)
