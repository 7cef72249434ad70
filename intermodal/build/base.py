"""The base image: a Python 3.11 from a registry by digest, or an equivalent made from the Debian mirror."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from intermodal.errors import EnvironmentProblem

if TYPE_CHECKING:
    from docker import APIClient

BASE = "intermodal/base:dev"
OFFICIAL = "python:3.11-slim-bookworm"


def ensure_base(client: APIClient, project: Path, say: Callable[[str], None]) -> str:
    """Return the reference of the base image, made if absent.

    BASE_IMAGE wins; then what is here; then the official image if a registry answers; then `images/base/bootstrap`.
    Raises EnvironmentProblem.
    """
    from docker.errors import APIError, ImageNotFound
    from requests.exceptions import RequestException

    wanted = os.environ.get("BASE_IMAGE", BASE)
    try:
        client.inspect_image(wanted)
        return wanted
    except ImageNotFound:
        pass
    if wanted != BASE:
        raise EnvironmentProblem(f"BASE_IMAGE {wanted!r}: the engine has no such image", hint=f"docker pull {wanted}")
    try:
        client.pull(_pinned(project))
        client.tag(_pinned(project), "intermodal/base", "dev")
        return BASE
    except (APIError, RequestException):
        say(f"no registry gives {OFFICIAL}: making the base image from the Debian mirror")
        return _bootstrap(project)


def _pinned(project: Path) -> str:
    """Return the official image, by digest if the project pins one in images/base/digest."""
    pin = project / "images/base/digest"
    return f"{OFFICIAL}@{pin.read_text(encoding='ascii').strip()}" if pin.is_file() else OFFICIAL


def _bootstrap(project: Path) -> str:
    done = subprocess.run([str(project / "images/base/bootstrap"), BASE], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EnvironmentProblem(
            f"the base image cannot be made: {last}", hint="set BASE_IMAGE to a Python 3.11 image that the engine has"
        )
    return BASE
