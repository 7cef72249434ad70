"""The host backend: steps are child processes with this machine's own tools, whatever image they name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from intermodal.backends.children import ended, follow, signal_group, spawn
from intermodal.backends.exits import command_text, judge
from intermodal.backends.logs import LogWriter
from intermodal.backends.mounts import show_mounts
from intermodal.backends.process.environments import environment_for
from intermodal.backends.usage import usage_of_sessions
from intermodal.engine.backend import Capabilities, Exit, Image, Launch, Packages, PullPolicy, Usage, extended
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.errors import EnvironmentProblem

_POLL_SECONDS = 0.02
_SCRATCH = "scratch"


@dataclass(frozen=True)
class _Step:
    run: str
    child: subprocess.Popen[bytes]
    started: float


class HostBackend:
    """Runs a step's command as it is, at once, without containers. Implements `intermodal.engine.backend.Backend`.

    For tests of what a pipeline does: quick, and no proof of anything inside an image. `python3` is the Python that runs this.
    """

    name = "host"
    capabilities = Capabilities(
        isolates_filesystem=False,
        isolates_network=False,
        enforces_cpu=False,
        enforces_memory=False,
        gpu=False,
        needs_images=False,
        detached=False,
        notes=(
            "for tests: images are not looked at; steps are processes with the tools of this machine, and nothing holds them",
        ),
    )

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}
        self._lock = threading.Lock()

    def prepare(self, state_dir: Path) -> None:
        """Nothing to check: processes can be started here."""
        self._state = state_dir

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        """Take any reference; what it names is not looked for."""
        return Image(reference, reference, f"host:{reference}")

    def image_here(self, reference: str, memory: Path | None) -> Image:
        return self.resolve_image(reference)

    def query(self, image: Image, command: Sequence[str]) -> str:
        """Run a short command and return what it printed. Raises EnvironmentProblem."""
        try:
            done = subprocess.run(
                command,
                env={"PATH": _search_path()},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise EnvironmentProblem(f"{command[0]!r} cannot run here: {error}") from error
        return done.stdout

    def install(self, image: Image, packages: Packages) -> Image:
        """Return the image with an environment that holds the packages; its commands come first. Raises EnvironmentProblem."""
        folder = self._state / "envs"
        environment = environment_for((), folder, self._state / "wheels", packages)
        return replace(image, id=str(environment), digest=extended(image, packages))

    def export(self, image: Image, path: PurePosixPath, folder: Path) -> Path:
        """There are no files of images here. Raises EnvironmentProblem."""
        raise EnvironmentProblem(f"image {image.reference}: the {self.name} backend has no images to take {path} from")

    def step_root(self, attempt_dir: Path) -> PurePosixPath:
        return PurePosixPath(attempt_dir.absolute())

    def start(self, launch: Launch) -> str:
        """Start the step; its handle is its process id. Raises AttemptFailed."""
        words = [*launch.command, *launch.args]
        if not words:
            raise AttemptFailed(
                Failure(FailureClass.IMAGE, f"{launch.task}: has no command, and no image is here to give one")
            )
        scratch = launch.attempt_dir.absolute() / _SCRATCH
        scratch.mkdir(exist_ok=True)
        path = _search_path()
        if (environment := Path(launch.image.id) / "bin").is_dir():
            path = f"{environment}:{path}"
        places = {"HOME": str(scratch), "TMPDIR": str(scratch), "USER": "step", "PATH": path}
        env = {**places, "INTERMODAL_MOUNTS": json.dumps(show_mounts(launch)), **launch.env}
        try:
            child = spawn(words, scratch, env)
        except (OSError, ValueError) as error:
            text = f"{command_text(launch)!r} cannot be started: {error}"
            raise AttemptFailed(Failure(FailureClass.IMAGE, text)) from error
        handle = str(child.pid)
        with self._lock:
            self._steps[handle] = _Step(launch.run_id, child, time.monotonic())
        return handle

    def adopt(self, launch: Launch) -> None:
        """Find nothing: see `Capabilities.detached`."""

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        """Copy the step's output until it ends; what it left in its process group ends with it."""
        step = self._step(handle)
        if step is None:
            return Exit(None, Failure(FailureClass.ENGINE_LOST, "the step was removed: its exit is not known"), 0.0)
        with LogWriter(launch.log, launch.log_cap, on_line) as log:
            code = follow(step.child, log)
        seconds = time.monotonic() - step.started
        shutil.rmtree(launch.attempt_dir / _SCRATCH, ignore_errors=True)
        return judge(code, launch, (log.problem.errno or 0) if log.problem else None, seconds)

    def _step(self, handle: str) -> _Step | None:
        with self._lock:
            return self._steps.get(handle)

    def stop(self, handle: str, grace: float) -> None:
        """SIGTERM to the step's process group, wait `grace` seconds, SIGKILL."""
        step = self._step(handle)
        if step is None or ended(step.child):
            return
        signal_group(step.child, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while not ended(step.child) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        signal_group(step.child, signal.SIGKILL)

    def remove(self, handle: str) -> None:
        """Kill the step if it still runs, and forget it."""
        with self._lock:
            step = self._steps.pop(handle, None)
        if step is not None:
            signal_group(step.child, signal.SIGKILL)
            step.child.wait()

    def cleanup(self, run_id: str) -> int:
        """Kill and forget every step of the run; return how many still ran."""
        with self._lock:
            steps = {handle: step for handle, step in self._steps.items() if step.run == run_id}
        running = [step for step in steps.values() if not ended(step.child)]
        for handle in steps:
            self.remove(handle)
        return len(running)

    def usage(self, handle: str) -> Usage | None:
        """Return what the step and all it started use, None if it has ended. Implements `Meter`."""
        return usage_of_sessions({int(handle)})

    def close(self) -> None:
        """Nothing is held."""


def _search_path() -> str:
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
