"""One step as a child process: its own session, its output, its end, and the end of whatever it left behind."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from intermodal.backends.logs import LogWriter


def spawn(
    argv: Sequence[str], cwd: Path | str, env: Mapping[str, str], prepare: Callable[[], None] | None = None
) -> subprocess.Popen[bytes]:
    """Start a step in a session of its own, both streams in one pipe. Raises OSError.

    `prepare` is called in the child before the step's program; only for callers with a single thread.
    """
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=prepare,
    )


def follow(child: subprocess.Popen[bytes], log: LogWriter) -> int:
    """Copy the output to the log until the step has ended; kill what it left in its group; return its code as Popen has it."""
    try:
        assert child.stdout is not None
        _pump(child, child.stdout, log)
    finally:
        signal_group(child, signal.SIGKILL)
        code = child.wait()
        if child.stdout is not None:
            child.stdout.close()
    return code


def _pump(child: subprocess.Popen[bytes], output: IO[bytes], log: LogWriter) -> None:
    """Copy output until the step has ended and its pipe is drained; a child that keeps the pipe open is killed."""
    descriptor = output.fileno()
    os.set_blocking(descriptor, False)
    while True:
        over = ended(child)
        if over:
            signal_group(child, signal.SIGKILL)
        readable, _, _ = select.select([descriptor], [], [], 0.0 if over else 0.2)
        data = b""
        if readable:
            with contextlib.suppress(BlockingIOError):
                data = os.read(descriptor, 65536)
            if not data:
                _await_end(child)
                return
            log.write(data)
        elif over:
            return


def _await_end(child: subprocess.Popen[bytes]) -> None:
    """Wait for a step that has closed its output: it may be on its way out, or go on without a word."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)


def ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether the step has ended, without reaping it: its process group's number must stay taken until it was killed."""
    if child.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # reaped by another thread in this moment
        return True


def signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if child.returncode is not None:
        return  # reaped: its number may be another's by now
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
