"""Packages installed on top of an image, as a layer of its own: made once for an image's content and a set of wheels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import docker.errors
import requests
from docker import APIClient
from docker.types import Mount

from intermodal.backends.docker.client import explain
from intermodal.backends.docker.container import EngineTraits
from intermodal.backends.docker.outcome import no_space
from intermodal.backends.docker.temporary import owner_labels
from intermodal.engine.backend import Image, Packages, extended
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.errors import EnvironmentProblem

REPOSITORY = "intermodal-packages"
"""What made images are called, so that no `docker image prune` takes them for litter; the tag is the identity."""
LABEL_PACKAGES = "io.intermodal.packages"
"""On every made image: its identity."""
LABEL_LIST = "io.intermodal.packages.list"
LABEL_PARENT = "io.intermodal.packages.parent"

_WHEELS = "/tmp/wheels"
_BUILD_SECONDS = 1800
# pip from its wheel, by the image's own Python: old files go, console scripts and metadata come, as after any `pip install`.
_INSTALL = """
import os, runpy, sys
for name in [name for name in os.environ if name.startswith("PIP_")]:
    del os.environ[name]
os.environ.update(PIP_BREAK_SYSTEM_PACKAGES="1", PIP_CONFIG_FILE=os.devnull, HOME="/tmp")
os.umask(0o022)
sys.path.insert(0, sys.argv[1])
sys.argv[:2] = ["pip", "install"]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
_OPTIONS = [
    "--no-index",
    "--no-deps",
    "--no-cache-dir",
    "--quiet",
    "--disable-pip-version-check",
    "--no-warn-script-location",
]


def install(client: APIClient, traits: EngineTraits, image: Image, packages: Packages) -> Image:
    """Return the image with the packages installed; what an earlier call made is used again.

    Raises EnvironmentProblem with pip's words, AttemptFailed (disk full).
    """
    digest = extended(image, packages)
    name = f"{REPOSITORY}:{digest.removeprefix('sha256:')[:32]}"
    found = _find(client, name, digest) or _make(client, traits, image, packages, digest, name)
    return replace(image, id=found, digest=digest)


def _find(client: APIClient, name: str, digest: str) -> str | None:
    try:
        details = client.inspect_image(name)
    except docker.errors.NotFound:
        return None
    labels = (details.get("Config") or {}).get("Labels") or {}
    return str(details["Id"]) if labels.get(LABEL_PACKAGES) == digest else None


def _make(client: APIClient, traits: EngineTraits, image: Image, packages: Packages, digest: str, name: str) -> str:
    try:
        with _container(client, traits, image, packages) as container:
            _run(client, container, image)
            made = client.commit(container, changes=_changes(client.inspect_image(image.id), packages, digest, image))
    except docker.errors.APIError as error:
        text = explain(error)
        if no_space(text):
            raise AttemptFailed(Failure(FailureClass.DISK_FULL, f"no space left for an image: {text}")) from error
        raise EnvironmentProblem(f"image {image.reference}: packages cannot be installed: {text}") from error
    found = _find(client, name, digest)
    if found is not None:  # another process with another state folder was faster
        client.remove_image(made["Id"])
        return found
    client.tag(made["Id"], *name.split(":"))
    return str(made["Id"])


@contextmanager
def _container(client: APIClient, traits: EngineTraits, image: Image, packages: Packages) -> Iterator[str]:
    """Give a container that installs: as root, because the image's Python is root's, but with no network and few rights."""
    # Given back by `_changes`. An entry point that there was not cannot be taken away again, so one is set only over another.
    entry = bool((client.inspect_image(image.id).get("Config") or {}).get("Entrypoint"))
    wheels = [f"{_WHEELS}/{wheel.path.name}" for wheel in packages.wheels]
    pip = f"{_WHEELS}/pip/{packages.pip.path.name}"
    host = client.create_host_config(
        cap_drop=["ALL"],
        cap_add=["DAC_OVERRIDE"],
        security_opt=["no-new-privileges"],
        pids_limit=512,
        tmpfs={"/tmp": "rw,nosuid,nodev,mode=1777"},  # so that nothing of it gets into the layer
        network_mode="none",
        userns_mode=traits.userns,
        mounts=[
            Mount(target, str(wheel.path), type="bind", read_only=True)
            for target, wheel in zip([*wheels, pip], [*packages.wheels, packages.pip], strict=True)
        ],
    )
    command = ["python3", "-c", _INSTALL, pip, *_OPTIONS, *wheels]
    config = client.create_container_config(
        image=image.id,
        command=None if entry else command,
        entrypoint=command if entry else None,
        user="0",
        labels=owner_labels("build"),
        host_config=host,
        network_disabled=True,
    )
    container = str(client.create_container_from_config(config)["Id"])
    try:
        yield container
    finally:
        client.remove_container(container, force=True, v=True)


def _run(client: APIClient, container: str, image: Image) -> None:
    try:
        client.start(container)
        code = int(client.wait(container, timeout=_BUILD_SECONDS)["StatusCode"])
    except requests.exceptions.RequestException as error:
        raise EnvironmentProblem(f"image {image.reference}: installing packages gave no answer") from error
    if code == 0:
        return
    lines = client.logs(container, tail=200).decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"exit code {code}"]
    if no_space(errors[-1]):
        raise AttemptFailed(Failure(FailureClass.DISK_FULL, f"no space left to install packages: {errors[-1]}"))
    raise EnvironmentProblem(f"image {image.reference}: packages cannot be installed: {errors[-1]}")


def _changes(parent: Mapping[str, Any], packages: Packages, digest: str, image: Image) -> list[str]:
    """Return what gives the image the entry point, command and user of its parent back, and labels that say it is ours."""
    config = parent.get("Config") or {}
    labels = {
        LABEL_PACKAGES: digest,
        LABEL_PARENT: image.id,
        LABEL_LIST: " ".join(f"{wheel.name}=={wheel.version}" for wheel in packages.wheels),
        **dict.fromkeys(owner_labels("build"), ""),
    }
    entry, command = config.get("Entrypoint") or [], config.get("Cmd") or []
    return [
        *([f"ENTRYPOINT {json.dumps(entry)}"] if entry else []),
        f"CMD {json.dumps(command if command or entry else ['-'])}",
        f"USER {config.get('User') or '0'}",
        *(f"LABEL {name}={json.dumps(value)}" for name, value in labels.items()),
    ]


@dataclass(frozen=True)
class Layered:
    """An image that `install` made."""

    id: str
    packages: str
    size: int
    """Bytes, those of the image below it included."""


def made(client: APIClient) -> list[Layered]:
    """Return every image with packages that the engine keeps, of whatever state folder."""
    found = client.images(name=REPOSITORY, filters={"label": LABEL_PACKAGES})
    return [Layered(str(item["Id"]), item["Labels"].get(LABEL_LIST, ""), int(item["Size"])) for item in found]


def remove(client: APIClient, image: Layered) -> bool:
    """Remove one; False if a container or another tag holds it. One that is gone is no error."""
    try:
        client.remove_image(image.id)
    except docker.errors.NotFound:
        return True
    except docker.errors.APIError as error:
        if error.status_code != requests.codes.conflict:
            raise
        return False
    return True
