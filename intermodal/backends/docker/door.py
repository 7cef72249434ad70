"""The container beside a step in network `tracking`: it holds a loopback, on which it passes connections on to the tracking server.

The step joins that loopback and has no other network: no bridge, no gateway, no name service, on any engine. The container is of the
step's own image, the only one that is here for certain, and needs a Python in it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import docker.errors
from docker import APIClient
from docker.types import Healthcheck, Mount

from intermodal.backends import relay
from intermodal.backends.docker.container import HOME_ENVIRONMENT, LABEL_RUN, LABEL_STATE, EngineTraits
from intermodal.engine.backend import Launch
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass

_BIRTH = 30.0
_MEMORY = 128 * 2**20
_LABEL = "io.intermodal.door"


def open_door(client: APIClient, launch: Launch, folder: Path, traits: EngineTraits, state: str) -> str:
    """Start the container for a launch, listening, and return its id. `folder` holds the socket. Raises AttemptFailed."""
    container = ""
    try:
        made = client.create_container_from_config(_config(client, launch, folder, traits, state))
        container = str(made["Id"])
        client.start(container)
        deadline = time.monotonic() + _BIRTH
        while relay.READY.encode() not in client.logs(container):
            if not client.inspect_container(container)["State"]["Running"] or time.monotonic() > deadline:
                raise _failure(launch, client.logs(container).decode("utf-8", "replace"))
            time.sleep(0.05)
    except docker.errors.APIError as error:
        _remove(client, container)
        raise _failure(launch, str(error.explanation or error)) from error
    except AttemptFailed:
        _remove(client, container)
        raise
    return container


def _config(client: APIClient, launch: Launch, folder: Path, traits: EngineTraits, state: str) -> dict[str, Any]:
    host = client.create_host_config(
        init=True,
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=512,
        mem_limit=_MEMORY,
        memswap_limit=_MEMORY,
        network_mode="none",
        userns_mode=traits.userns,
        mounts=[Mount(relay.FOLDER, str(folder.absolute()), type="bind", read_only=True)],
    )
    config: dict[str, Any] = client.create_container_config(
        image=launch.image.id,
        command=None,
        entrypoint=["python3", "-I", "-S", "-c", Path(relay.__file__).read_text(encoding="utf-8")],
        environment=dict(HOME_ENVIRONMENT),
        user=traits.user,
        # Not those of an attempt, but of the run: whoever cleans up after it finds this one.
        labels={LABEL_RUN: launch.run_id, LABEL_STATE: state, _LABEL: f"{launch.task}@{launch.attempt}"},
        host_config=host,
        healthcheck=Healthcheck(test=["NONE"]),
    )
    return config


def _failure(launch: Launch, why: str) -> AttemptFailed:
    last = (why.strip().splitlines() or ["no message"])[-1]
    text = f"{launch.task}: network `tracking` needs a python3 in {launch.image.reference}: {last}"
    return AttemptFailed(Failure(FailureClass.IMAGE, text))


def _remove(client: APIClient, container: str) -> None:
    if container:
        client.remove_container(container, force=True, v=True)
