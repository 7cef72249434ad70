"""Facts about the place where a run is started, for its record: the machine, and the checkout that the pipeline comes from."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from intermodal.engine.resources import machine

_PATIENCE = 2.0
"""Seconds that git may take; it works beside the preparations of the run. A checkout that is slower has no facts."""


class Checkout:
    """Asks git about a folder while something else goes on. `facts` waits for the answer."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is the project's, None if there is none."""
        self._child: subprocess.Popen[str] | None = None
        if folder is None:
            return
        # Nothing of the checkout is run or written: no monitor, no refreshed index.
        command = ["git", "-c", "core.fsmonitor=false", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
        with contextlib.suppress(OSError):
            self._child = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
            )

    def facts(self) -> dict[str, Any]:
        """Return `commit` and `dirty` (whether tracked files differ from it); nothing where git knows nothing."""
        if self._child is None:
            return {}
        try:
            text, _ = self._child.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.communicate()
            return {}
        lines = text.splitlines()
        commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "")
        if self._child.returncode or not commit or commit == "(initial)":
            return {}
        return {"commit": commit, "dirty": any(not line.startswith("#") for line in lines)}


def hardware() -> dict[str, Any]:
    """Return what this machine is: `cpus`, `memory` in bytes, `gpus`, `processor`, `system`."""
    total = machine()
    return {
        "cpus": total.cpus,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": total.gpus,
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _processor() -> str:
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
