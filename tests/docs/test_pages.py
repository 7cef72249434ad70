"""The pages say what is true: their Python runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_example_of_the_python_page(tmp_path: Path):
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/how-to/python.md").read_text(), re.DOTALL | re.MULTILINE
    )[:1]
    (tmp_path / "example.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "INTERMODAL_BACKEND": "host"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "0.5"
    assert Path(lines[1]).read_text() == "weights"
    assert "KFP Executor" in done.stdout


def test_the_page_of_the_command_names_every_verb_and_exit_code():
    from intermodal.cli.main import VERBS
    from intermodal.errors import ExitCode

    page = (ROOT / "docs" / "cli.md").read_text()
    assert [verb for verb in VERBS if f"`{verb}`" not in page] == []
    assert [code for code in ExitCode if f"| {int(code)} |" not in page] == []


def test_the_threat_model_names_tests_that_are_there():
    page = (ROOT / "docs" / "threat-model.md").read_text()
    named = re.findall(r"`(tests/[\w/.]+)`", page)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
