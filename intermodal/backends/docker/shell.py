"""A person's shell in the place of an attempt: a new container like the attempt's, attached to this process's terminal.

It speaks to the engine alone: no docker command is needed. Source of the protocol: `POST /containers/{id}/attach` in
https://docs.docker.com/reference/api/engine/.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from types import FrameType
from typing import Any

import docker.errors
import requests
from docker import APIClient

from intermodal.backends.docker.client import CONNECTION_ERRORS, explain
from intermodal.backends.docker.container import LABEL_STATE, STEP_ROOT, EngineTraits, container_config
from intermodal.backends.shells import start_command, write_files
from intermodal.engine.backend import Launch, Mount
from intermodal.engine.temporary import owned_name, owner_lives
from intermodal.errors import EnvironmentProblem

LABEL_SHELL = "io.intermodal.shell"
LABEL_OWNER = "io.intermodal.owner"
_SEEN = STEP_ROOT / "shell"
# Docker's own (ctrl-p, ctrl-q) would swallow a key of every line editor, and there is nothing to detach from.
_DETACH_KEYS = "ctrl-@,ctrl-@,ctrl-@,ctrl-@"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def open_shell(client: APIClient, launch: Launch, traits: EngineTraits, state: str, command: str | None) -> int:
    """Run a shell, or one command, in a container like the attempt's; return its exit code. Raises EnvironmentProblem."""
    _sweep(client, state)
    image: Mapping[str, Any] = client.inspect_image(launch.image.id).get("Config") or {}
    if command is None:
        write_files(launch.attempt_dir / "shell", _SEEN, _argv(launch, image))
        launch = replace(launch, mounts=(*launch.mounts, Mount(launch.attempt_dir / "shell", _SEEN)))
        words = start_command(_SEEN)
    else:
        words = ["sh", "-c", command]
    config = container_config(client, launch, traits, state)
    config |= {
        "Entrypoint": words,
        "Cmd": None,
        # Not those of the attempt: nobody must take this container for it.
        "Labels": {LABEL_SHELL: f"{launch.run_id}/{launch.task}", LABEL_OWNER: owned_name(), LABEL_STATE: state},
        "Tty": command is None,
        "OpenStdin": command is None,
    }
    config["HostConfig"]["AutoRemove"] = True
    try:
        container = str(client.create_container_from_config(config)["Id"])
    except docker.errors.APIError as error:
        raise EnvironmentProblem(f"no container of {launch.image.reference}: {explain(error)}") from error
    try:
        if not _has_shell(client, container, launch, image):
            raise EnvironmentProblem(
                f"image {launch.image.reference} has no sh: no shell can be opened in it",
                hint="run the step again as it is with `intermodal replay`, or look at its log with `intermodal logs`",
            )
        return _interact(client, container) if command is None else _command(client, container)
    except docker.errors.APIError as error:
        raise EnvironmentProblem(f"the shell cannot be started: {explain(error)}") from error
    except CONNECTION_ERRORS as error:
        raise EnvironmentProblem("the Docker engine stopped answering") from error
    finally:
        with contextlib.suppress(
            docker.errors.APIError, requests.exceptions.RequestException
        ):  # gone by itself, as it should
            client.remove_container(container, force=True, v=True)


def _sweep(client: APIClient, state: str) -> None:
    """Remove the containers of shells that were killed: the engine does not end a shell whose terminal is gone."""
    found = client.containers(all=True, filters={"label": [LABEL_SHELL, f"{LABEL_STATE}={state}"]})
    for container in found:
        if not owner_lives(container["Labels"].get(LABEL_OWNER, "")):
            _remove(client, container["Id"])


def _remove(client: APIClient, container: str) -> None:
    with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):  # gone by itself
        client.remove_container(container, force=True, v=True)


def _argv(launch: Launch, image: Mapping[str, Any]) -> list[str]:
    """Return what the step runs, with what its image gives where the pipeline gave nothing."""
    if launch.command:
        return [*launch.command, *launch.args]
    return [*(image.get("Entrypoint") or ()), *(launch.args or image.get("Cmd") or ())]


def _has_shell(client: APIClient, container: str, launch: Launch, image: Mapping[str, Any]) -> bool:
    variables = dict(item.split("=", 1) for item in image.get("Env") or () if "=" in item)
    path = launch.env.get("PATH") or variables.get("PATH") or _DEFAULT_PATH
    return any(_exists(client, container, PurePosixPath(folder, "sh")) for folder in path.split(":") if folder)


def _exists(client: APIClient, container: str, path: PurePosixPath) -> bool:
    try:
        chunks, _ = client.get_archive(container, str(path))
    except docker.errors.NotFound:
        return False
    chunks.close()
    return True


class _Ending:
    """The exit code of a container that removes itself: asked for before it starts, since afterwards there is nobody to ask."""

    def __init__(self, client: APIClient, container: str) -> None:
        self._code: int | None = None
        self._client, self._container = client, container
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
            answer = self._client.wait(self._container, timeout=None, condition="removed")
            self._code = int(answer["StatusCode"])

    def code(self) -> int:
        """Wait for the end. Raises EnvironmentProblem if the engine does not tell."""
        self._thread.join()
        if self._code is None:
            raise EnvironmentProblem("the Docker engine lost the shell's container")
        return self._code


def _command(client: APIClient, container: str) -> int:
    output = client.attach(container, stdout=True, stderr=True, stream=True, demux=True)
    ending = _Ending(client, container)
    client.start(container)
    for out, err in output:
        for data, stream in ((out, sys.stdout), (err, sys.stderr)):
            if data:
                stream.buffer.write(data)
                stream.flush()
    return ending.code()


def _interact(client: APIClient, container: str) -> int:
    """Tie the terminal to the container until its shell ends."""
    wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "detachKeys": _DETACH_KEYS}
    attached = client.attach_socket(container, params=wanted)
    stream = getattr(attached, "_sock", attached)  # docker-py gives a file over the socket, or the socket itself
    stream.settimeout(None)
    ending = _Ending(client, container)

    def fit(*_: object) -> None:
        size = os.get_terminal_size(sys.stdout.fileno())
        with contextlib.suppress(docker.errors.APIError):  # it has just ended
            client.resize(container, height=size.lines, width=size.columns)

    client.start(container)
    with _raw(sys.stdin.fileno()), _on_resize(fit):
        fit()
        _copy(stream, sys.stdin.fileno(), sys.stdout.fileno())
    return ending.code()


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Let every key through to the other side, Ctrl-C too; put the terminal back however this ends."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _on_resize(fit: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = signal.signal(signal.SIGWINCH, fit)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


def _copy(stream: Any, keyboard: int, screen: int) -> None:
    """Copy both ways until the other side has ended."""
    watched = [stream, keyboard]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if keyboard in readable:
            typed = os.read(keyboard, 4096)
            if typed:
                stream.sendall(typed)
            else:
                watched.remove(keyboard)
        if stream in readable:
            data = stream.recv(65536)
            if not data:
                return
            view = memoryview(data)
            while view:
                view = view[os.write(screen, view) :]
