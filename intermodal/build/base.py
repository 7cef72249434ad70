"""The base image: a Python 3.11 from a registry by digest, or an equivalent made from the Debian mirror."""

from __future__ import annotations

import hashlib
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
RECIPE = "io.intermodal.recipe"
"""Label of a base image that was made here: the digest of how."""
_TRIMMED = (
    "rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip /usr/local/lib/python3.*/site-packages/pip-* "
    "/usr/local/lib/python3.*/ensurepip && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +"
)
"""What the official image has and no step needs: a pip (builder stages bring their own), programs that give another user."""


def ensure_base(client: APIClient, project: Path, say: Callable[[str], None]) -> str:
    """Return the reference of the base image, made if absent or if it is to be made in another way now.

    BASE_IMAGE wins; then what is here; then the official image if a registry answers; then `images/base/bootstrap`.
    Raises EnvironmentProblem.
    """
    wanted = os.environ.get("BASE_IMAGE")
    if wanted is not None:
        if _labels(client, wanted) is None:
            raise EnvironmentProblem(
                f"BASE_IMAGE {wanted!r}: the engine has no such image", hint=f"docker pull {wanted}"
            )
        return wanted
    recipe = recipe_of(project)
    labels = _labels(client, BASE)
    if labels is not None and labels.get(RECIPE) == recipe:
        return BASE
    if take_official(client, (_pinned(project), OFFICIAL), BASE, say, recipe):
        return BASE
    say(f"no registry gives {OFFICIAL}: making the base image from the Debian mirror")
    return _bootstrap(project, recipe)


def recipe_of(project: Path) -> str:
    """Return the digest of how the base image is made."""
    parts = [_TRIMMED.encode(), *((project / f"images/base/{name}").read_bytes() for name in ("bootstrap", "digest"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _labels(client: APIClient, image: str) -> dict[str, str] | None:
    from docker.errors import ImageNotFound

    try:
        return client.inspect_image(image)["Config"].get("Labels") or {}
    except ImageNotFound:
        return None


def take_official(
    client: APIClient, references: Sequence[str], target: str, say: Callable[[str], None], recipe: str = ""
) -> bool:
    """Pull the first of `references` that the registry has and tag it `target`, trimmed; return False if none can be had."""
    from docker.errors import APIError, NotFound
    from requests.exceptions import RequestException

    for reference in references:
        try:
            client.pull(reference)
            _trim(client, reference, target, recipe)
        except APIError as error:
            if not isinstance(error, NotFound) and "manifest unknown" not in str(error.explanation):
                return False
            say(f"the registry has no {reference}")
        except RequestException:
            return False
        else:
            return True
    return False


def _trim(client: APIClient, reference: str, target: str, recipe: str) -> None:
    repository, _, tag = target.rpartition(":")
    host = client.create_host_config(network_mode="none")
    container = client.create_container(reference, command=["sh", "-c", _TRIMMED], host_config=host)["Id"]
    try:
        client.start(container)
        code = client.wait(container)["StatusCode"]
        if code:
            raise EnvironmentProblem(f"image {reference} cannot be trimmed: ended with code {code}")
        label = f'LABEL io.intermodal.base="{reference}" {RECIPE}="{recipe}"'
        changes = ['CMD ["python3"]', "ENTRYPOINT []", label]
        client.commit(container, repository, tag, changes="\n".join(changes))
    finally:
        client.remove_container(container, force=True)


def _pinned(project: Path) -> str:
    """Return the official image by the digest in images/base/digest."""
    return f"{OFFICIAL}@{(project / 'images/base/digest').read_text(encoding='ascii').strip()}"


def _bootstrap(project: Path, recipe: str) -> str:
    environment = {**os.environ, "RECIPE": recipe}
    command = [str(project / "images/base/bootstrap"), BASE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EnvironmentProblem(
            f"the base image cannot be made: {last}", hint="set BASE_IMAGE to a Python 3.11 image that the engine has"
        )
    return BASE
