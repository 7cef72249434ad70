"""Run as a program: pip as it would decide inside an image. `python -P pip_for_image.py TARGET.json INSTALLED PIP-ARGUMENT...`

pip's own options choose another platform's wheels, but it evaluates markers (`; python_version < "3.10"`) for the Python that runs it, and
takes what is installed beside it as installed. Here the markers are those of TARGET.json and the installed packages those of the folder
INSTALLED. Both reach into pip, so that they took effect is checked before anything is resolved.
"""

from __future__ import annotations

import json
import site
import sys
from pathlib import Path
from typing import cast

from pip._internal.cli.main import main
from pip._internal.metadata import get_default_environment
from pip._vendor.packaging import markers


def imitate(environment: dict[str, str], installed: str) -> None:
    """Make pip believe in another Python. Raises RuntimeError if this pip does not."""
    imitated = cast("markers.Environment", environment)
    markers.default_environment = lambda: imitated
    ours = {*site.getsitepackages(), site.getusersitepackages()}
    standard = str(Path(json.__file__).parents[1])
    kept = [entry for entry in sys.path if entry not in ours and (entry.startswith(standard) or entry.endswith(".zip"))]
    sys.path[:] = [*kept, installed]
    version = environment["python_full_version"]
    wrong = [dist for dist in get_default_environment().iter_all_distributions() if dist.location != installed]
    if wrong or not markers.Marker(f'python_full_version == "{version}"').evaluate():
        raise RuntimeError("this version of pip cannot be made to resolve for another Python")


if __name__ == "__main__":
    imitate(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])
    sys.exit(main(sys.argv[3:]))
