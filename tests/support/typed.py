"""The real command in a folder of its own, with the host backend of the tests as `--backend watched`: no engine is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from kfp import compiler

from tests.support.plugin import install

ROOT = Path(__file__).parents[2]
_PLUGIN = """
from tests.support.host import HostBackend

def make(place):
    backend = HostBackend()
    backend.name = "watched"
    backend.digests = dict(place.options.get("digests", {}))
    return backend
"""


class Command:
    """Runs `python -m intermodal` in `folder`; a pipeline function is compiled to `<name>.yaml` by `write`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".intermodal"
        install(folder / "site", "host-backend", _PLUGIN, "[intermodal.backends]\nwatched = host_backend:make\n")
        (folder / "pyproject.toml").touch()

    def write(self, pipeline: Any) -> str:
        """Compile a pipeline function; return the file's name."""
        path = self.folder / f"{pipeline.name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return path.name

    def environment(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder / "site"), str(ROOT)])
        given = {name: value for name, value in os.environ.items() if not name.startswith("INTERMODAL_")}
        return {**given, "PYTHONPATH": path, "INTERMODAL_BACKEND": "watched", "INTERMODAL_QUIET": "1", **more}

    def __call__(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "intermodal", *map(str, words)],
            cwd=self.folder, capture_output=True, text=True, timeout=120, env=self.environment(**environment),
        )  # fmt: skip

    def ok(self, *words: object) -> str:
        """Run, expect exit code 0, return stdout."""
        done = self(*words)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *words: object) -> Any:
        """Run with `--json`, expect exit code 0, return the document."""
        return json.loads(self.ok(*words, "--json"))
