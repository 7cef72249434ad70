"""Node.js and azurite for the tests of the AzureML emulator: `python -m tests.support.azurite` makes sure that they are there."""

from __future__ import annotations

import sys
from pathlib import Path

from intermodal.backends.azureml.emulator.azurite import install, missing_tools
from intermodal.errors import EnvironmentProblem
from tests.support import apt

TOOLS = Path(__file__).parents[2] / ".intermodal" / "tools"
"""Where the project keeps its tools."""


def main() -> None:
    """Install what is missing."""
    packages = {"node": "nodejs", "npm": "npm"}
    for name in missing_tools():
        apt.install(name, packages[name], "the tests of the AzureML emulator", f"apt install {packages[name]}")
    try:
        install(TOOLS)
    except EnvironmentProblem as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        raise SystemExit(3) from None


if __name__ == "__main__":
    main()
