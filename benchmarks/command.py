"""Runs the real command as a user does, and reads its record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMAGE = "intermodal/base:dev"
"""Has a shell and Python, nothing else."""


def compile_pipeline(pipeline: Any, folder: Path) -> Path:
    """Compile a pipeline function to IR YAML in `folder`."""
    from kfp import compiler

    path = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    return path


def intermodal(*words: str | Path, state: Path, **variables: str) -> tuple[float, dict[str, Any]]:
    """Run a pipeline and return the seconds that the whole command took and its result. Raises RuntimeError if it is not green."""
    command = [sys.executable, "-m", "intermodal", "run", *map(str, words), "--state", str(state), "--plain", "--json"]
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment(**variables)
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds, json.loads(done.stdout)


def environment(**more: str) -> dict[str, str]:
    """Return this environment with byte code kept (without it each command would compile all that it imports anew), and no tracking."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "INTERMODAL_TRACKING": "off", **more}


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
