"""Runs a leaf's step as a child process, again if it may be retried, and reads what it wrote."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Union

from intermodal.backends.azureml.launcher.known import Run
from intermodal.backends.azureml.launcher.ports import Inputs, Outputs
from intermodal.engine.artifacts import Outputs as StepOutputs
from intermodal.engine.environment import expand_variables
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.harvest import Outbox
from intermodal.engine.placeholders import resolve, resolve_arguments
from intermodal.errors import BadInput
from intermodal.spec.custom_path import keep_custom_paths
from intermodal.spec.types import Container, Retry

_OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


Execute = Callable[[Sequence[str], Mapping[str, str]], Union[Failure, None]]
"""Runs a command with these variables to its end; returns how it failed."""


class Step:
    """The step of one leaf."""

    def __init__(
        self,
        run: Run,
        container: Container,
        inputs: Inputs,
        outputs: Outputs,
        job: Mapping[str, str],
        env: Mapping[str, str],
        execute: Execute,
    ) -> None:
        """`env` is what the step gets beside its container's own variables (secrets, config maps, fields)."""
        self._execute = execute
        self._run = run
        self._container = container
        self._inputs = inputs
        self._outputs = outputs
        self._job = job
        self._env = env

    def run(self) -> StepOutputs:
        """Run it to success, or raise AttemptFailed with the last attempt's failure."""
        policy: Retry = self._run.task.retry
        started = time.monotonic()
        attempt = 1
        while True:
            try:
                return self._attempt()
            except AttemptFailed as error:
                delay = policy.delay * policy.factor ** (attempt - 1)
                if attempt > policy.count or time.monotonic() + delay > started + policy.total:
                    raise
                say(f"attempt {attempt} failed ({error.failure.message}); again in {delay:g} s")
                time.sleep(delay)
                attempt += 1

    def _command(self) -> Sequence[str]:
        if self._container.prelude is None:
            return self._container.command
        return keep_custom_paths(self._container.command)

    def _attempt(self) -> StepOutputs:
        folder = Path(tempfile.mkdtemp(prefix="kfp-"))
        try:
            outbox = Outbox(self._run.component, folder, PurePosixPath(folder))
            outbox.prepare()
            given = self._run.inputs
            views = {name: [self._inputs.view(item) for item in items] for name, items in given.artifacts.items()}
            context = outbox.context(given, views, self._job)
            try:
                command = [
                    *resolve_arguments(self._command(), context),
                    *resolve_arguments(self._container.args, context),
                ]
                declared = [(name, resolve(value, context)) for name, value in self._container.env]
            except BadInput as error:
                raise AttemptFailed(Failure(FailureClass.USER_CODE, error.message)) from error
            env = expand_variables({**os.environ, **self._env}, declared)
            failure = self._execute(command, env)
            if failure is not None:
                raise AttemptFailed(failure)
            return outbox.harvest(self._outputs.publish)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def execute(command: Sequence[str], env: Mapping[str, str]) -> Failure | None:
    """Run `command` to its end with this process's output; signals that ask to end are handed on."""
    killed_before = _oom_kills()
    try:
        child = subprocess.Popen(command, env=dict(env), stdin=subprocess.DEVNULL)
    except (OSError, ValueError) as error:
        return Failure(FailureClass.IMAGE, f"{command[0]!r} cannot be started: {error}")
    with _handed_on(child):
        code = child.wait()
    if _oom_kills() > killed_before:
        return Failure(FailureClass.OOM, "killed for memory", code)
    if code < 0:
        return Failure(FailureClass.KILLED, f"killed by signal {-code}", 128 - code)
    return Failure(FailureClass.USER_CODE, f"{command[0]!r} exited with code {code}", code) if code else None


@contextmanager
def _handed_on(child: subprocess.Popen[Any]) -> Iterator[None]:
    def forward(number: int, _: Any) -> None:
        child.send_signal(number)

    handlers = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _oom_kills() -> int:
    """Return how many processes of this container were killed for memory, 0 where the kernel does not say."""
    for name in _OOM_COUNTERS:
        try:
            lines = Path(name).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def say(line: str) -> None:
    """Write a line of the launcher's own to the node's log."""
    print(f"[kfp] {line}", file=sys.stderr, flush=True)
