"""A step as a child process: its end is its own, even if it closes its output before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from intermodal.backends.children import follow, spawn
from intermodal.backends.logs import LogWriter


@pytest.mark.parametrize("code", [0, 7])
def test_a_step_that_closes_its_output_ends_when_it_ends(tmp_path: Path, code: int):
    script = f"echo said; exec >&- 2>&-; sleep 0.3; exit {code}"
    child = spawn(["sh", "-c", script], tmp_path, {"PATH": os.environ["PATH"]})
    with LogWriter(tmp_path / "log", 1024, None) as log:
        assert follow(child, log) == code
    assert (tmp_path / "log").read_bytes() == b"said\n"
