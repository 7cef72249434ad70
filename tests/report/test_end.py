"""The report that every run writes at its end, and the verb that writes one anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_commands import ROOT
from tests.support.command import Command

PIPELINE = """
from kfp import dsl


@dsl.container_component
def say(text: str, out: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="x", command=["sh", "-c", 'echo "$1" > "$2"', "sh"], args=[text, out])


@dsl.pipeline(name="hello")
def hello(text: str = "x"):
    say(text=text)
"""


@pytest.fixture
def command(tmp_path: Path) -> Command:
    (tmp_path / "hello.py").write_text(PIPELINE)
    return Command(tmp_path, tmp_path / "state")


def test_every_run_has_its_report(command: Command):
    done = command("run", "hello.py", "--backend", "host", "--json")
    result = json.loads(done.stdout)
    page = Path(result["report"])
    assert page == Path(result["folder"]) / "report.html" and "<title>hello succeeded" in page.read_text()
    page.unlink()
    assert command.text("report").strip() == str(page) and page.is_file()
    assert command.text("report", "hello", "-o", "mine.html") == "mine.html\n"
    assert (command.folder / "mine.html").read_text() == command.text("report", "-o", "-")
    (command.state / "runs" / result["run"] / "pipeline.yaml").unlink()
    assert 'id="graph"' not in command.text("report", "-o", "-") and 'id="timeline"' in command.text(
        "report", "-o", "-"
    )
    done = command("report", "-o", "no/such/folder.html")
    assert done.returncode == 3 and b"no/such/folder.html" in done.stderr
    assert command("report", "nothing").returncode == 2


def test_a_report_that_cannot_be_written_fails_no_run(command: Command):
    done = command("run", "hello.py", "--backend", "host", "--arg", "text=first")
    folder = next((command.state / "runs").iterdir())
    assert done.returncode == 0 and f"all of it: {folder}/report.html" in done.stdout.decode()
    program = (
        "import sys, intermodal.report.page as page\n"
        "page.render = lambda *_: 1 / 0\n"
        "from intermodal.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", program, "run", "hello.py", "--backend", "host", "--state", str(command.state)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=command.folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done
    assert "note: the report could not be written: ZeroDivisionError" in done.stderr and "all of it" not in done.stdout
    assert list(folder.parent.glob("*/*.tmp")) == []
