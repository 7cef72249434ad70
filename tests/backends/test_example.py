"""The example of docs/backends.md, installed as it is written there: the command finds it, and it keeps the contract."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kfp import compiler, dsl

from tests.engine.steps import join, say, shell
from tests.support.plugin import install

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
BACKEND, CASES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
ENTRY = re.findall(r"^```toml\n\[project\.entry-points\.\"(.*?)\"\]\nacme = \"(.*?)\"", PAGE, re.MULTILINE)[0]


@dsl.pipeline(name="hello")
def hello(text: str = "hello") -> str:
    first = say(text=text)
    return join(left=first.output, right="!").output


@dsl.pipeline(name="bad")
def bad():
    shell(script="echo broken >&2; exit 7")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    install(tmp_path / "site", "acme-backend", BACKEND, f"[{ENTRY[0]}]\nacme = {ENTRY[1]}\n")
    for pipeline in (hello, bad):
        compiler.Compiler().compile(pipeline, str(tmp_path / f"{pipeline.name}.yaml"))
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "site"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_the_command_runs_a_pipeline_on_it(folder: Path):
    done = run(folder, "intermodal", "run", "hello.yaml", "--backend", "acme", "--json", "--arg", "text=it works")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parameters"] == {"Output": "it works|!"}
    assert "note: steps are child processes: nothing isolates them, and no limit holds" in done.stderr
    assert json.loads(run(folder, "intermodal", "runs", "--json").stdout)["backend"] == "acme"


def test_a_failing_run_goes_on_with_the_backend_that_began_it(folder: Path):
    done = run(folder, "intermodal", "run", "bad.yaml", "--backend", "acme")
    assert done.returncode == 1
    assert "user_code: exit code 7" in done.stderr
    again = run(folder, "intermodal", "resume")
    assert again.returncode == 1
    assert "user_code: exit code 7" in again.stderr


def test_its_options_come_from_the_project(folder: Path):
    (folder / "pyproject.toml").write_text('[tool.intermodal.backends.acme]\npath = "/nowhere"\n')
    done = run(folder, "intermodal", "run", "hello.yaml", "--backend", "acme")
    assert done.returncode == 1
    assert "image: 'sh -c" in done.stderr and "cannot be started: No such file or directory" in done.stderr


def test_it_passes_the_cases_of_the_contract(folder: Path):
    (folder / "test_acme.py").write_text(CASES)
    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "test_acme.py")
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed, \d+ skipped", done.stdout)
