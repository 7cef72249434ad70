"""The connection to the Docker engine: the one DOCKER_HOST or the current docker context names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import docker
import docker.errors
import requests
from docker import APIClient
from docker.context import ContextAPI

from intermodal.errors import EnvironmentProblem

INSTALL_HINT = (
    "install Docker (https://docs.docker.com/engine/install/) and start it, or run the same steps without containers: "
    "make pipeline-local BACKEND=process"
)
CONNECTION_ERRORS = (requests.exceptions.ConnectionError, requests.exceptions.Timeout)
"""What docker-py raises when the engine does not answer (an answer that says no is `docker.errors.APIError`)."""
_POOL = 64


DEFAULT_SOCKET = "unix:///var/run/docker.sock"


class UnsupportedEngine(EnvironmentProblem):
    """An engine answers, but it is another one."""


def address() -> str:
    """Return the engine's address as configured: DOCKER_HOST, else the docker context. Raises EnvironmentProblem."""
    host = os.environ.get("DOCKER_HOST")
    if host:
        return host
    name = os.environ.get("DOCKER_CONTEXT") or None
    try:
        context = ContextAPI.get_context(name)
    except (docker.errors.DockerException, OSError, ValueError) as error:
        raise EnvironmentProblem(f"the docker context {name or 'in use'!r} cannot be read: {_reason(error)}") from error
    if context is None and name:
        # docker-py would go on with the default engine, which is not the one that was asked for.
        raise EnvironmentProblem(f"docker context {name!r} does not exist", hint="docker context ls")
    return str(getattr(context, "Host", None) or DEFAULT_SOCKET).removeprefix("http+")


def connect(timeout: float = 60) -> APIClient:
    """Return a client that answers, safe to use from several threads.

    Raises EnvironmentProblem if no engine answers, saying how to get one; UnsupportedEngine if what answers is Podman.
    """
    place = address()
    try:
        client = docker.from_env(timeout=timeout, max_pool_size=_POOL).api
        version = client.version()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
        raise EnvironmentProblem(f"no Docker engine answers at {place}: {_reason(error)}", hint=INSTALL_HINT) from error
    _refuse_podman(version, place)
    return client


def _refuse_podman(version: Mapping[str, Any], place: str) -> None:
    """Podman speaks Docker's API in its own words, down to messages that a failure's class is read from."""
    for component in version.get("Components") or ():
        if str(component.get("Name", "")).startswith("Podman"):
            raise UnsupportedEngine(
                f"the engine at {place} is Podman {component.get('Version', '')}, which is not supported: what is told of a "
                "step's end (memory kills, exit codes, logs after a restart) is proven on Docker's own engine only",
                hint="start Docker and unset DOCKER_HOST, or run the same steps without containers: --backend process",
            )


def explain(error: docker.errors.APIError) -> str:
    """Return the engine's own explanation in one line."""
    return " ".join(str(error.explanation or error).split())


def _reason(error: BaseException) -> str:
    text = str(error)
    for known in ("Permission denied", "No such file or directory", "Connection refused", "timed out"):
        if known in text:
            return known.lower()
    return " ".join(text.split())[:200]
