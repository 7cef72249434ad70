"""Whole runs without containers, by the real command: what a pipeline means is the same, and a killed command loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from kfp import compiler, dsl, kubernetes

from intermodal.testing.wheels import make_wheel
from tests.trust.conftest import Command, Done

PYTHON = "python:3.11"


@pytest.fixture
def command(tmp_path: Path, python_folder: Path, environments: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    (tmp_path / "pyproject.toml").touch()
    state = tmp_path / ".intermodal"
    state.mkdir()
    (state / "python").symlink_to(python_folder)
    (state / "envs").symlink_to(environments)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTERMODAL_BACKEND", "process")
    return Command(tmp_path)


def output(done: Done, task: str) -> object:
    return done.task(task)["outputs"]["parameters"]["Output"]


@dsl.component(base_image=PYTHON)
def look(folder: str) -> NamedTuple("O", [("env", str), ("left", list), ("cwd", str)]):
    import os
    from typing import NamedTuple

    O = NamedTuple("O", [("env", str), ("left", list), ("cwd", str)])  # noqa: E741, UP014
    with open(f"{folder}/seen", "a") as stream:  # noqa: PTH123
        stream.write("x")
    return O(os.environ.get("TOKEN", ""), sorted(os.listdir(folder)), os.getcwd())  # noqa: PTH109, PTH208


def test_secrets_workspace_and_environment(command: Command, tmp_path: Path):
    (tmp_path / "secrets" / "mine").mkdir(parents=True)
    (tmp_path / "secrets" / "mine" / "token").write_text("hush-hush")

    @dsl.pipeline(name="p", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")))
    def pipeline():
        first = look(folder=dsl.WORKSPACE_PATH_PLACEHOLDER)
        kubernetes.use_secret_as_env(first, secret_name="mine", secret_key_to_env={"token": "TOKEN"})
        look(folder=dsl.WORKSPACE_PATH_PLACEHOLDER).after(first)

    done = command.run(pipeline, "--secrets", str(tmp_path / "secrets"))
    assert done.code == 0, done.err
    seen = done.task("look")["outputs"]["parameters"]
    assert seen["env"] == "hush-hush"
    assert seen["left"] == ["seen"]
    assert Path(seen["cwd"]).is_relative_to(command.state), "a step does not work in the user's own folder"
    [kept] = command.state.glob("runs/*/workspace/seen")
    assert kept.read_text() == "xx"
    # An output may hold whatever the step puts there; nothing else of the state folder holds the secret.
    files = [path for path in command.state.rglob("*") if path.is_file() and "python" not in path.parts]
    holding = {path.name for path in files if b"hush-hush" in path.read_bytes()}
    assert holding <= {"intermodal.db", "intermodal.db-wal", "parameters.json", "executor_output.json", "report.html"}
    launches = [attempt["launch"] for attempt in done.record["attempts"]]
    assert not any("hush-hush" in launch for launch in launches)
    assert f"image {PYTHON}: its steps run in a bare environment of this machine's Python" in done.err


def test_retries_and_timeouts(command: Command):
    @dsl.component(base_image=PYTHON)
    def flaky(folder: str) -> str:
        import os

        with open(f"{folder}/tries", "a") as stream:  # noqa: PTH123
            stream.write("x")
        if os.path.getsize(f"{folder}/tries") < 3:  # noqa: PTH202
            raise RuntimeError("not yet")
        return "third"

    @dsl.component(base_image=PYTHON)
    def slow():
        import time

        print("begun", flush=True)
        time.sleep(300)

    @dsl.pipeline(name="p", pipeline_config=dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi")))
    def pipeline():
        flaky(folder=dsl.WORKSPACE_PATH_PLACEHOLDER).set_retry(3, backoff_duration="0s")
        kubernetes.set_timeout(slow(), 3)

    started = time.monotonic()
    done = command.run(pipeline)
    assert done.code == 1
    assert time.monotonic() - started < 120
    assert output(done, "flaky") == "third"
    assert [attempt["path"] for attempt in done.record["attempts"]].count("flaky") == 3
    [(path, (kind, message))] = done.failures.items()
    assert (path, kind) == ("slow", "timeout")
    assert "3 s" in message


def test_packages_and_the_runtime(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_wheel(
        tmp_path / "index",
        "intermodal-in-env",
        "1.0",
        {"in_env.py": "import sys\ndef hello(): print('hello', *sys.argv[1:])\n"},
        scripts={"in-env": "in_env:hello"},
    )
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))

    @dsl.component(base_image=PYTHON, packages_to_install=["intermodal-in-env"])
    def use() -> str:
        import subprocess
        from importlib.metadata import version

        return version("intermodal-in-env") + subprocess.run(["in-env", "you"], capture_output=True, text=True).stdout

    @dsl.component(base_image=PYTHON)
    def without() -> str:
        from importlib.util import find_spec

        return str(find_spec("in_env"))

    @dsl.pipeline(name="p")
    def pipeline():
        use()
        without()

    done = command.run(pipeline)
    assert done.code == 0, done.err
    assert output(done, "use") == "1.0hello you\n"
    assert output(done, "without") == "None"


def test_a_killed_command_is_gone_on_with(command: Command, tmp_path: Path):
    """The step outlives the command; `resume` adopts it, and it is done once."""

    @dsl.component(base_image=PYTHON)
    def wait(folder: str) -> str:
        import os
        import time

        with open(f"{folder}/began", "a") as stream:  # noqa: PTH123
            stream.write("x")
        while not os.path.exists(f"{folder}/end"):  # noqa: PTH110
            time.sleep(0.05)
        print("ended well", flush=True)
        return "done"

    @dsl.pipeline(name="p")
    def pipeline(folder: str) -> str:
        return wait(folder=folder).output

    compiler.Compiler().compile(pipeline, str(tmp_path / "p.yaml"))
    words = [sys.executable, "-m", "intermodal", "run", "p.yaml", "--plain", "--arg", f"folder={tmp_path}"]
    runner = subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])})
    deadline = time.monotonic() + 120
    while not (tmp_path / "began").exists():
        assert runner.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    (tmp_path / "end").touch()
    assert command("resume").returncode == 0
    record = json.loads(command("show", "--json").stdout)
    [task] = record["tasks"]
    assert (task["state"], task["outputs"]["parameters"]) == ("SUCCEEDED", {"Output": "done"})
    assert len(record["attempts"]) == 1
    assert (tmp_path / "began").read_text() == "x"
    assert "ended well" in Path(record["attempts"][0]["log"]).read_text()
