"""Which image a command runs in: what its environment says, or what stands in for it on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from intermodal.backends.azureml.emulator.execution.host import Host
from intermodal.engine.backend import Image
from intermodal.errors import BadInput, Unsupported


def image_of(environment: str | Mapping[str, Any], host: Host, place: str) -> Image:
    """Find the image of an environment (its id, or its properties). Raises BadInput, Unsupported, EnvironmentProblem."""
    chosen = _standin(environment, host.options.images) if isinstance(environment, str) else None
    if chosen is None:
        properties = _properties(environment, host, place)
        image = properties.get("image")
        chosen = host.options.images.get(str(image)) or host.options.images.get("*")
        if chosen is None:
            _check(properties, environment, place)
            chosen = str(image)
    return host.backend.image_here(chosen, None) or host.backend.resolve_image(chosen)  # no digest is wanted here


def _properties(environment: str | Mapping[str, Any], host: Host, place: str) -> Mapping[str, Any]:
    if not isinstance(environment, str):
        return environment
    try:
        return host.control.environment(environment)
    except KeyError:
        if "*" in host.options.images:
            return {}
        raise BadInput(
            f"{place}: environment {environment!r} is not in the workspace",
            hint=f"--image {short_name(environment)}=IMAGE runs another image instead",
        ) from None


def _check(properties: Mapping[str, Any], environment: Any, place: str) -> None:
    conda = properties.get("condaFile") or properties.get("conda_file")
    if properties.get("image") and not conda:
        return
    what = "a conda file" if conda else "a build context"
    name = short_name(environment) if isinstance(environment, str) else "of its own"
    raise Unsupported(
        f"{place}: environment {name} has {what}, which the emulator does not build",
        hint=f"build the image yourself and name it: --image {name}=IMAGE",
    )


def _standin(environment: str, images: Mapping[str, str]) -> str | None:
    return (
        images.get(environment)
        or images.get(environment.removeprefix("azureml:"))
        or images.get(short_name(environment))
    )


def short_name(environment: str) -> str:
    """Return the name of an environment in any form of its id."""
    match = re.search(r"environments/([^/]+)", environment)
    return match[1] if match else re.split(r"[:@]", environment.removeprefix("azureml:"))[0]
