"""The Docker backend: one attempt is one container, which outlives the command that started it."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import docker.errors
import requests
from docker import APIClient

from intermodal.backends.docker import images, layers, outcome, temporary
from intermodal.backends.docker.client import CONNECTION_ERRORS, connect, explain
from intermodal.backends.docker.container import (
    LABEL_ATTEMPT,
    LABEL_RUN,
    LABEL_STATE,
    LABEL_TASK,
    STEP_ROOT,
    EngineTraits,
    container_config,
    hand_over,
    open_up,
    query_config,
)
from intermodal.backends.docker.door import open_door
from intermodal.backends.docker.export import export
from intermodal.backends.docker.kernel import KernelLog
from intermodal.backends.docker.logs import LogFollower
from intermodal.backends.docker.probe import check_sharing
from intermodal.backends.docker.shell import open_shell
from intermodal.backends.exits import log_failure
from intermodal.backends.logs import LogWriter
from intermodal.engine.backend import (
    Capabilities,
    Exit,
    Image,
    Launch,
    Packages,
    PullPolicy,
    Usage,
    extended,
    has_other_user,
)
from intermodal.engine.failure import AttemptFailed, Failure
from intermodal.engine.once import Locks
from intermodal.errors import EnvironmentProblem

RECONNECT_SECONDS = 30.0
"""How long a lost engine may take to come back (a restart with live-restore) before its attempts are lost."""
_QUERY_SECONDS = 60
_ENDED = frozenset({"exited", "dead"})


class DockerBackend:
    """Runs attempts on the Docker engine that the environment names. Implements `intermodal.engine.backend.Backend`."""

    name = "docker"
    capabilities = Capabilities(
        isolates_filesystem=True,
        isolates_network=True,
        enforces_cpu=True,
        enforces_memory=True,
        gpu=True,
        needs_images=True,
    )

    def __init__(self, *, reconnect: float = RECONNECT_SECONDS) -> None:
        self._reconnect = reconnect
        self._state_dir: Path | None = None
        self._connected: APIClient | None = None
        self._traits: EngineTraits | None = None
        self._lock = threading.Lock()
        self._installing = Locks()
        self._kernel = KernelLog()
        self._doors: dict[str, str] = {}
        """Container of an attempt -> the one beside it, of what this object started."""

    def _engine(self) -> tuple[APIClient, EngineTraits]:
        with self._lock:
            if self._connected is None:
                self._connected = connect()
            if self._traits is None:
                self._traits = EngineTraits.of(self._connected.info())
            return self._connected, self._traits

    @property
    def _client(self) -> APIClient:
        return self._engine()[0]

    def prepare(self, state_dir: Path) -> None:
        """Check that an engine answers and shares the file system of `state_dir`. Raises EnvironmentProblem."""
        state_dir.mkdir(parents=True, exist_ok=True)
        self._state_dir = state_dir.resolve()
        try:
            client, traits = self._engine()
            check_sharing(client, self._state_dir, traits.identity)
        except CONNECTION_ERRORS as error:
            raise EnvironmentProblem("the Docker engine stopped answering") from error

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        """Find the image (pull it if it is not ours) and hash its content. Raises EnvironmentProblem naming it."""
        memo = self._state_dir / "images" if self._state_dir else None
        try:
            client, traits = self._engine()
            return images.resolve(client, reference, memo, traits, pull)
        except docker.errors.APIError as error:
            raise EnvironmentProblem(f"image {reference}: {explain(error)}") from error
        except CONNECTION_ERRORS as error:
            raise EnvironmentProblem(f"image {reference}: the Docker engine stopped answering") from error

    def image_here(self, reference: str, memory: Path | None) -> Image | None:
        """Find an image that the engine has; its content is hashed only if `memory` is given. Raises EnvironmentProblem."""
        client, engine = self._engine()
        try:
            return images.find(client, reference, memory and memory.resolve() / "images", engine)
        except docker.errors.APIError as error:
            raise EnvironmentProblem(f"image {reference}: {explain(error)}") from error
        except CONNECTION_ERRORS as error:
            raise EnvironmentProblem(f"image {reference}: the Docker engine stopped answering") from error

    def query(self, image: Image, command: Sequence[str]) -> str:
        """Run a short command in the image and return what it printed. Raises EnvironmentProblem."""
        client, traits = self._engine()
        container = ""
        try:
            made = client.create_container_from_config(query_config(client, image, command, traits))
            container = str(made["Id"])
            client.start(container)
            code = int(client.wait(container, timeout=_QUERY_SECONDS)["StatusCode"])
            output: str = client.logs(container, stdout=True, stderr=code != 0).decode("utf-8", "replace")
        except docker.errors.APIError as error:
            raise EnvironmentProblem(f"image {image.reference}: {command[0]!r} cannot run: {explain(error)}") from error
        except requests.exceptions.RequestException as error:
            raise EnvironmentProblem(f"image {image.reference}: {command[0]!r} gave no answer") from error
        finally:
            if container:
                self.remove(container)
        if code:
            last = (output.strip().splitlines() or [""])[-1]
            raise EnvironmentProblem(f"image {image.reference}: {command[0]!r} exited {code}: {last}")
        return output

    def install(self, image: Image, packages: Packages) -> Image:
        """Return the image with a layer that holds the packages. Raises EnvironmentProblem, AttemptFailed."""
        client, traits = self._engine()
        try:
            with self._installing.held(extended(image, packages)):
                return layers.install(client, traits, image, packages)
        except CONNECTION_ERRORS as error:
            raise EnvironmentProblem(f"image {image.reference}: the Docker engine stopped answering") from error

    def export(self, image: Image, path: PurePosixPath, folder: Path) -> Path:
        """Copy the file or folder at `path` of the image into `folder` and return the copy. Raises EnvironmentProblem."""
        try:
            return export(self._client, image, path, folder)
        except CONNECTION_ERRORS as error:
            raise EnvironmentProblem(f"image {image.reference}: the Docker engine stopped answering") from error

    def step_root(self, attempt_dir: Path) -> PurePosixPath:
        return STEP_ROOT

    def start(self, launch: Launch) -> str:
        """Create and start the container; return its id. Raises AttemptFailed."""
        client, traits = self._engine()
        container, door = "", ""
        try:
            self._let_write(launch, traits)
            if launch.network == "tracking" and launch.door is not None:
                door = open_door(client, launch, launch.door, traits, self._state)
            made = client.create_container_from_config(container_config(client, launch, traits, self._state, door))
            container = str(made["Id"])
            client.start(container)
        except docker.errors.APIError as error:
            for made_already in filter(None, (container, door)):
                self.remove(made_already)
            raise AttemptFailed(outcome.start_failure(error, launch)) from error
        except CONNECTION_ERRORS as error:
            raise AttemptFailed(outcome.engine_lost("stopped answering while the step was being started")) from error
        if door:
            with self._lock:
                self._doors[container] = door
        return container

    def _let_write(self, launch: Launch, traits: EngineTraits) -> None:
        """Give the step's user what it must be able to write."""
        if has_other_user(launch.relax):
            open_up(launch.attempt_dir)
        else:
            hand_over(self._ours(launch), traits.user)

    @property
    def _state(self) -> str:
        return str(self._state_dir or "")

    def _ours(self, launch: Launch) -> list[Path]:
        """Return what the step must be able to write: its outputs, and volumes that lie in the state folder."""
        volumes = [mount.source for mount in launch.mounts if not mount.read_only and mount.source.is_dir()]
        kept = [path for path in volumes if self._state_dir and path.resolve().is_relative_to(self._state_dir)]
        return [launch.attempt_dir / "outputs", *kept]

    def adopt(self, launch: Launch) -> str | None:
        """Find the container of this attempt by its labels; one that was never started is removed."""
        labels = [
            f"{LABEL_RUN}={launch.run_id}",
            f"{LABEL_TASK}={launch.task}",
            f"{LABEL_ATTEMPT}={launch.attempt}",
            f"{LABEL_STATE}={self._state}",
        ]
        try:
            found = self._client.containers(all=True, filters={"label": labels})
        except CONNECTION_ERRORS as error:
            raise AttemptFailed(outcome.engine_lost("stopped answering while the step was being found")) from error
        for container in found:
            if container["State"] != "created":
                return str(container["Id"])
            self.remove(container["Id"])
        return None

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        """Block until the container ends, with all of its output in the log. Never raises for a failing step."""
        client, _ = self._engine()
        with LogWriter(launch.log, launch.log_cap, on_line) as writer:
            follower = LogFollower(client, handle, writer, launch.log_cap)
            follower.start()
            state = self._await_end(client, handle)
            follower.finish()
        if isinstance(state, Failure):
            return Exit(None, state, 0.0)
        try:
            ended = outcome.read_exit(client, self._kernel, handle, state, launch)
        except (*CONNECTION_ERRORS, docker.errors.APIError) as error:
            return Exit(None, outcome.engine_lost(f"stopped answering: {type(error).__name__}"), 0.0)
        if writer.problem is not None and ended.failure is None:
            failure = log_failure(writer.problem.errno or 0, launch.log, ended.exit_code)
            return replace(ended, failure=failure)
        return ended

    def _await_end(self, client: APIClient, handle: str) -> dict[str, Any] | Failure:
        """Return the engine's State of the ended container, or why it cannot be known."""
        lost_at: float | None = None
        while True:
            try:
                if lost_at is None:
                    client.wait(handle, timeout=None)
                state: dict[str, Any] = client.inspect_container(handle)["State"]
            except docker.errors.NotFound:
                return outcome.engine_lost(f"no longer has container {handle[:12]}: something else removed it")
            except (docker.errors.APIError, requests.exceptions.RequestException) as error:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > self._reconnect:
                    return outcome.engine_lost(f"stopped answering while the step ran ({type(error).__name__})")
                time.sleep(1)
                continue
            if state["Status"] not in _ENDED:
                lost_at = None  # it survived a restart of the engine: wait on
            elif lost_at is not None and int(state["ExitCode"]) != 0:
                return outcome.engine_lost("was restarted and the step ended with it")
            else:
                return state

    def stop(self, handle: str, grace: float) -> None:
        """SIGTERM, wait `grace` seconds, SIGKILL. Unknown or ended handles are no error."""
        try:
            self._client.stop(handle, timeout=max(0, math.ceil(grace)))
        except (docker.errors.NotFound, *CONNECTION_ERRORS):
            return  # nothing to stop, or `wait` reports the lost engine

    def remove(self, handle: str) -> None:
        """Remove the container if it is there. A failure here never changes a step's result."""
        with self._lock:
            door = self._doors.pop(handle, "")
        for container in filter(None, (handle, door)):
            # Gone, being removed, or left for `cleanup`, which finds it by its label.
            with contextlib.suppress(docker.errors.APIError, *CONNECTION_ERRORS):
                self._client.remove_container(container, force=True, v=True)

    def cleanup(self, run_id: str) -> int:
        """Remove every container of a run of this state folder; return how many there were. Sweeps what killed runners left."""
        labels = [f"{LABEL_RUN}={run_id}", f"{LABEL_STATE}={self._state}"]
        try:
            found = self._client.containers(all=True, filters={"label": labels})
            temporary.sweep(self._client)
        except CONNECTION_ERRORS as error:
            raise EnvironmentProblem(
                "the Docker engine stopped answering; containers of the run may be left"
            ) from error
        for container in found:
            self.remove(container["Id"])
        return len(found)

    def usage(self, handle: str) -> Usage | None:
        """Return what the container uses, None if it has ended. Implements `Meter`."""
        try:
            # As numbers: some engines take the text `True` for no, and then measure for a second.
            answer = self._client.stats(handle, stream=0, one_shot=1)
        except (docker.errors.APIError, requests.exceptions.RequestException, EnvironmentProblem):
            return None
        return outcome.read_usage(answer)

    def shell(self, launch: Launch, command: str | None) -> int:
        """Run a shell or a command in a new container like the attempt's. Implements `Shells`."""
        client, traits = self._engine()
        self._let_write(launch, traits)
        return open_shell(client, launch, traits, self._state, command)

    def close(self) -> None:
        self._kernel.close()
        with self._lock:
            if self._connected is not None:
                self._connected.close()
            self._connected = None
            self._traits = None
