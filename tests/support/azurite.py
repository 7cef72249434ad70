"""Node.js and azurite for the tests of the AzureML emulator: `python -m tests.support.azurite` makes sure that they are there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from intermodal.backends.azureml.emulator.azurite import install, missing_tools
from intermodal.errors import EnvironmentProblem

TOOLS = Path(__file__).parents[2] / ".intermodal" / "tools"
"""Where the project keeps its tools."""


def main() -> None:
    """Install what is missing: root on Debian or Ubuntu gets Node.js from apt, anybody else is told what to do."""
    missing = {"node": "nodejs", "npm": "npm"}
    packages = [missing[name] for name in missing_tools()]
    if packages and (os.geteuid() != 0 or shutil.which("apt-get") is None):
        print(f"error: {' and '.join(packages)} missing; the tests of the AzureML emulator need them", file=sys.stderr)
        print(f"hint: apt install {' '.join(packages)}", file=sys.stderr)
        raise SystemExit(3)
    if packages:
        print(f"no {' '.join(packages)}: installing with apt for the AzureML emulator", file=sys.stderr, flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(
                ["apt-get", *command[:1], "-q", *command[1:]],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                words = (done.stderr or done.stdout).strip().splitlines()
                print(f"error: apt-get {command[0]} failed: {words[-1] if words else 'no message'}", file=sys.stderr)
                raise SystemExit(3)
    try:
        install(TOOLS)
    except EnvironmentProblem as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        raise SystemExit(3) from None


if __name__ == "__main__":
    main()
