"""The base image: a Python 3.11 from a registry by digest, or an equivalent made from the Debian mirror."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from intermodal.errors import EnvironmentProblem

if TYPE_CHECKING:
    from docker import APIClient

BASE = "intermodal/base:dev"
OFFICIAL = "python:3.11-slim-bookworm"
_NOT_AT_RUN_TIME = (
    "rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip /usr/local/lib/python3.*/site-packages/pip-* "
    "/usr/local/lib/python3.*/ensurepip"
)
"""What the official image has and no step needs: builder stages bring their own pip."""


def ensure_base(client: APIClient, project: Path, say: Callable[[str], None]) -> str:
    """Return the reference of the base image, made if absent.

    BASE_IMAGE wins; then what is here; then the official image if a registry answers; then `images/base/bootstrap`.
    Raises EnvironmentProblem.
    """
    from docker.errors import ImageNotFound

    wanted = os.environ.get("BASE_IMAGE", BASE)
    try:
        client.inspect_image(wanted)
        return wanted
    except ImageNotFound:
        pass
    if wanted != BASE:
        raise EnvironmentProblem(f"BASE_IMAGE {wanted!r}: the engine has no such image", hint=f"docker pull {wanted}")
    if take_official(client, (_pinned(project), OFFICIAL), BASE, say):
        return BASE
    say(f"no registry gives {OFFICIAL}: making the base image from the Debian mirror")
    return _bootstrap(project)


def take_official(client: APIClient, references: Sequence[str], target: str, say: Callable[[str], None]) -> bool:
    """Pull the first of `references` that the registry has and tag it `target`, without pip; return False if none can be had."""
    from docker.errors import APIError, NotFound
    from requests.exceptions import RequestException

    for reference in references:
        try:
            client.pull(reference)
            _trim(client, reference, target)
        except APIError as error:
            if not isinstance(error, NotFound) and "manifest unknown" not in str(error.explanation):
                return False
            say(f"the registry has no {reference}")
        except RequestException:
            return False
        else:
            return True
    return False


def _trim(client: APIClient, reference: str, target: str) -> None:
    repository, _, tag = target.rpartition(":")
    host = client.create_host_config(network_mode="none")
    container = client.create_container(reference, command=["sh", "-c", _NOT_AT_RUN_TIME], host_config=host)["Id"]
    try:
        client.start(container)
        code = client.wait(container)["StatusCode"]
        if code:
            raise EnvironmentProblem(f"image {reference} cannot be trimmed: `rm` ended with code {code}")
        changes = ['CMD ["python3"]', "ENTRYPOINT []", f'LABEL io.intermodal.base="{reference}"']
        client.commit(container, repository, tag, changes="\n".join(changes))
    finally:
        client.remove_container(container, force=True)


def _pinned(project: Path) -> str:
    """Return the official image by the digest in images/base/digest."""
    return f"{OFFICIAL}@{(project / 'images/base/digest').read_text(encoding='ascii').strip()}"


def _bootstrap(project: Path) -> str:
    done = subprocess.run([str(project / "images/base/bootstrap"), BASE], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EnvironmentProblem(
            f"the base image cannot be made: {last}", hint="set BASE_IMAGE to a Python 3.11 image that the engine has"
        )
    return BASE
