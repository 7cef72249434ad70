"""What this backend makes on the engine for a moment, beside attempts: labelled with its owner, so that what a killed one left is found."""

from __future__ import annotations

import contextlib

import docker.errors
from docker import APIClient

from intermodal.engine.temporary import owned_name, owner_lives

LABEL_OWNER = "io.intermodal.owner"


def owner_labels(purpose: str) -> dict[str, str]:
    """Return the labels for a container or an image that this process is to remove."""
    return {LABEL_OWNER: owned_name(), f"io.intermodal.{purpose}": "1"}


def sweep(client: APIClient) -> None:
    """Remove containers and images whose owner was killed."""
    for container in client.containers(all=True, filters={"label": LABEL_OWNER}):
        if not owner_lives(container["Labels"][LABEL_OWNER]):
            with contextlib.suppress(docker.errors.APIError):  # another process sweeps too
                client.remove_container(container["Id"], force=True, v=True)
    for image in client.images(filters={"label": LABEL_OWNER}):
        owner = image["Labels"][LABEL_OWNER]  # empty on an image that was made in such a container, and is to stay
        if owner and not owner_lives(owner):
            with contextlib.suppress(docker.errors.APIError):
                client.remove_image(image["Id"], force=True)
