"""The command as typed: help, mistakes, the record of runs, on no engine at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from intermodal.sources import compile_file

ROOT = Path(__file__).parents[2]
PIPELINE = """
from kfp import dsl


@dsl.container_component
def say(text: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="x", command=["echo"], args=[text, out])


@dsl.pipeline(name="hello")
def hello(text: str, times: int = 1):
    say(text=text)
"""


def intermodal(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "intermodal", *arguments],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 2
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The pipeline as IR: most mistakes are the same on it, and the command need not load the SDK."""
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "hello.py").write_text(PIPELINE)
    compile_file(folder / "hello.py", folder / "hello.yaml")
    return (folder / "hello.yaml").read_text()


@pytest.fixture
def folder(tmp_path: Path, compiled: str) -> Path:
    (tmp_path / "hello.py").write_text(PIPELINE)
    (tmp_path / "hello.yaml").write_text(compiled)
    return tmp_path


def test_help_lists_the_verbs_and_imports_nothing_heavy(folder: Path):
    done = intermodal(folder, "--help")
    assert done.returncode == 0
    for verb in ("run", "runs", "show", "logs", "compile", "doctor", "build"):
        assert f"\n    {verb} " in done.stdout
    heavy = "kfp", "docker", "rich", "yaml", "pydantic"
    code = f"import sys, intermodal.cli.main; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"


def test_mistakes_are_one_line_and_start_nothing(folder: Path):
    refused(intermodal(folder, "run", "none.py"), 2, "none.py", "no such file")
    refused(intermodal(folder, "run", "hello.yaml", "--arg", "text"), 2, "'text'", "NAME=VALUE")
    refused(intermodal(folder, "run", "hello.yaml", "--arg", "txet=a"), 2, "'txet'", "did you mean 'text'?")
    refused(intermodal(folder, "run", "hello.yaml", "--arg", "text=a", "--arg", "times=two"), 2, "times", "'two'")
    refused(intermodal(folder, "run", "hello.yaml", "--max-parallel", "0"), 2, "--max-parallel 0")
    (folder / "c.yaml").write_text("text: [1\n")
    refused(intermodal(folder, "run", "hello.yaml", "--config", "c.yaml"), 2, "c.yaml", "line")
    (folder / "pyproject.toml").write_text("[tool.intermodal]\nnetwrok = {}\n")
    refused(intermodal(folder, "run", "hello.yaml", "--arg", "text=a"), 2, "netwrok")
    assert not (folder / ".intermodal" / "runs").exists()


def test_mistakes_in_a_python_file_are_one_line(folder: Path):
    refused(intermodal(folder, "run", "hello.py", "--pipeline", "other"), 2, "'other'", "hello")
    (folder / "broken.py").write_text("raise RuntimeError('mine')\n")
    refused(intermodal(folder, "run", "broken.py"), 2, "broken.py", "RuntimeError: mine")
    (folder / "empty.py").write_text("x = 1\n")
    refused(intermodal(folder, "run", "empty.py"), 2, "no @dsl.pipeline")


def test_debug_shows_where(folder: Path):
    done = intermodal(folder, "run", "none.py", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr and "no such file" in done.stderr


def test_no_engine_is_code_three_with_a_way_out(folder: Path):
    nowhere = f"unix://{folder}/none.sock"
    done = intermodal(folder, "run", "hello.yaml", "--arg", "text=a", DOCKER_HOST=nowhere)
    refused(done, 3, "none.sock", "BACKEND=process")


def test_the_record_of_no_runs(folder: Path):
    for verb in (["runs"], ["show"], ["logs", "say"]):
        refused(intermodal(folder, *verb), 2, "no runs")


def test_compile_writes_ir_that_loads(folder: Path):
    done = intermodal(folder, "compile", "hello.py", "-o", "out/hello.yaml")
    assert done.returncode == 0, done.stderr
    assert "hello" in done.stdout and "pipelineInfo" in (folder / "out" / "hello.yaml").read_text()
    refused(intermodal(folder, "run", "out/hello.yaml"), 2, "'text'")
    said = json.loads(intermodal(folder, "compile", "hello.py", "-o", "out/hello.yaml", "--json").stdout)
    assert (said["output"], said["pipeline"]) == ("out/hello.yaml", "hello") and said["digest"].startswith("sha256:")


def test_a_file_with_a_single_component_runs(tmp_path: Path):
    (tmp_path / "one.py").write_text(
        "from kfp import dsl\n\n\n@dsl.component(base_image='any')\ndef add(a: int, b: int = 2) -> int:\n    return a + b\n"
    )
    done = intermodal(tmp_path, "run", "one.py", "--backend", "host", "--arg", "a=3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"] == {"Output": 5}
    refused(intermodal(tmp_path, "run", "one.py", "--backend", "host"), 2, "required input 'a' has no value")
