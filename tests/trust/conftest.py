"""The real command on a real engine, as a user would type it."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from intermodal.cli.main import main


@dataclass
class Done:
    """What one `intermodal run` did."""

    code: int
    out: str
    err: str
    record: dict[str, Any]
    """`show --json` of it, empty if nothing was started."""
    folder: Path
    """Where the pipeline lies."""

    def task(self, path: str) -> dict[str, Any]:
        return next(task for task in self.record["tasks"] if task["path"] == path)

    @property
    def failures(self) -> dict[str, tuple[str, str]]:
        """Task path -> class and message."""
        tasks = self.record["tasks"]
        return {task["path"]: (task["failure_class"], task["failure"]) for task in tasks if task["failure"]}


@dataclass
class Command:
    """`intermodal` with a state folder of its own, for pipelines in a folder that is no project."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / ".intermodal"

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Run the command in this process (an interpreter of its own would cost a second), its output kept apart."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main([arguments[0], "--state", str(self.state), *arguments[1:]])
            except SystemExit as error:  # argparse
                code = int(error.code or 0)
            out.flush()
            err.flush()
        return subprocess.CompletedProcess(arguments, code, out.buffer.getvalue(), err.buffer.getvalue())

    def text(self, *arguments: str) -> str:
        """Return what the command prints; it must succeed."""
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def run(self, pipeline: Any, *arguments: str) -> Done:
        """Compile a pipeline (or take the path of an IR file) and run it."""
        path = pipeline
        if not isinstance(pipeline, Path):
            from kfp import compiler

            path = self.folder / f"{pipeline.name}.yaml"
            compiler.Compiler().compile(pipeline, str(path))
        done = self("run", str(path), *arguments)
        shown = self("show", "--json")
        record = json.loads(shown.stdout) if shown.returncode == 0 else {}
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode(), record, path.parent)


@pytest.fixture
def intermodal(tmp_path: Path) -> Command:
    return Command(tmp_path)
