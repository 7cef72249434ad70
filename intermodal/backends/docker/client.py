"""The connection to the Docker engine: the one DOCKER_HOST or the current docker context names."""

from __future__ import annotations

import os

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


def address() -> str:
    """Return the engine's address as configured, for messages."""
    host = os.environ.get("DOCKER_HOST")
    if host:
        return host
    try:
        context = ContextAPI.get_current_context()
    except (docker.errors.DockerException, OSError, ValueError):
        return "the default socket"
    return str(getattr(context, "Host", None) or "the default socket")


def connect(timeout: float = 60) -> APIClient:
    """Return a client that answers, safe to use from several threads.

    Raises EnvironmentProblem if no engine answers, saying how to get one.
    """
    try:
        client = docker.from_env(timeout=timeout, max_pool_size=_POOL).api
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
        raise EnvironmentProblem(
            f"no Docker engine answers at {address()}: {_reason(error)}", hint=INSTALL_HINT
        ) from error
    return client


def explain(error: docker.errors.APIError) -> str:
    """Return the engine's own explanation in one line."""
    return " ".join(str(error.explanation or error).split())


def _reason(error: BaseException) -> str:
    text = str(error)
    for known in ("Permission denied", "No such file or directory", "Connection refused", "timed out"):
        if known in text:
            return known.lower()
    return " ".join(text.split())[:200]
