"""A backend that runs each step as a plain child process, for tests of the engine alone: real processes, no container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from intermodal.engine.backend import Capabilities, Exit, Image, Launch, PullPolicy
from intermodal.engine.failure import Failure, FailureClass
from intermodal.errors import EnvironmentProblem


class HostBackend:
    """Runs `command + args`; inputs are links in the attempt folder. The image `missing` does not exist."""

    name = "host"
    capabilities = Capabilities(False, False, False, False, False, False)

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}
        self.launches: list[Launch] = []
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.most = 0

    def prepare(self, state_dir: Path) -> None:
        pass

    def query(self, image: Image, command: Sequence[str]) -> str:
        words = [sys.executable if command[0] == "python3" else command[0], *command[1:]]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def adopt(self, launch: Launch) -> str | None:
        return None

    def resolve_image(self, reference: str, pull: PullPolicy = "missing") -> Image:
        if reference == "missing":
            raise EnvironmentProblem(f"image {reference!r} is not here")
        return Image(reference, reference, self.digests.get(reference, f"digest-of-{reference}"))

    def step_root(self, attempt_dir: Path) -> PurePosixPath:
        return PurePosixPath(attempt_dir)

    def start(self, launch: Launch) -> str:
        for mount in launch.mounts:
            target = Path(mount.target)
            if target == mount.source:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(mount.source)
        with launch.log.open("wb") as log:
            child = subprocess.Popen(
                [*launch.command, *launch.args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], **launch.env},
                start_new_session=True,
            )
        self.launches.append(launch)
        self._children[str(child.pid)] = child
        self.most = max(self.most, len(self._children))
        return str(child.pid)

    def wait(self, handle: str, launch: Launch, on_line: Callable[[bytes], None] | None = None) -> Exit:
        started = time.monotonic()
        code = self._children[handle].wait()
        failure = None
        if code < 0:
            failure = Failure(FailureClass.KILLED, f"killed by signal {-code}", 128 - code)
        elif code > 0:
            failure = Failure(FailureClass.USER_CODE, f"exited with code {code}", code)
        return Exit(code, failure, time.monotonic() - started)

    def stop(self, handle: str, grace: float) -> None:
        child = self._children.get(handle)
        if child is not None and child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)

    def remove(self, handle: str) -> None:
        self._children.pop(handle, None)

    def cleanup(self, run_id: str) -> int:
        return 0

    def close(self) -> None:
        pass
