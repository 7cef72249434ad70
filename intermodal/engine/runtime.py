"""The KFP runtime: the part of the SDK that a lightweight Python component runs with, fetched once for each version.

It needs the standard library alone, so an unpacked package on PYTHONPATH is enough and no step needs a network for it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from intermodal.errors import EnvironmentProblem


def ensure_runtime(version: str, state: Path) -> Path:
    """Return the folder that holds package kfp at `version`, fetched with the host's pip if absent. Raises EnvironmentProblem."""
    target = state / "runtimes" / f"kfp-{version}"
    if target.is_dir():
        return target
    temporary = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
    temporary.mkdir(parents=True)
    try:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-compile",
            "--target",
            str(temporary),
        ]
        done = subprocess.run([*command, f"kfp=={version}"], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise EnvironmentProblem(
                f"the KFP runtime {version} of a Python component cannot be fetched: {last}",
                hint="check the network and `pip config list`",
            )
        temporary.chmod(0o755)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
