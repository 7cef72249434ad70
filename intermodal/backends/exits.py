"""What an exit status means, shared by the backends that run on this machine."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

from intermodal.engine.backend import Exit, Launch
from intermodal.engine.failure import Failure, FailureClass

_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT})
_LITTLE_SPACE = 1024 * 1024


def command_text(launch: Launch) -> str:
    """Return what is run, in one short line, for messages."""
    words = launch.command or launch.args[:1] or ("entry point of", launch.image.reference)
    text = " ".join(" ".join(words).split())
    return text if len(text) <= 80 else text[:79] + "…"


def mebibytes(size: int) -> str:
    """Return a byte count for people."""
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def out_of_memory(exit_code: int | None, limit: int | None) -> Failure:
    """Describe a step in which something was killed for memory, whatever its exit code says."""
    limit_text = f"the limit is {mebibytes(limit)}" if limit else "the machine has no more"
    if exit_code == 128 + signal.SIGKILL:
        message = f"out of memory: the step was killed; {limit_text}"
    else:
        message = f"out of memory: a child process was killed, though the step itself exited {exit_code}; {limit_text}"
    return Failure(FailureClass.OOM, message, exit_code)


def classify(exit_code: int, command: str) -> Failure | None:
    """Return the failure that a shell-style exit code stands for (128 + n: ended by signal n), None for 0.

    Memory is not decided here: code 137 alone is no proof of it.
    """
    if exit_code == 0:
        return None
    if exit_code in (125, 126, 127):
        reason = {125: "could not be started", 126: "cannot be executed", 127: "was not found"}[exit_code]
        return Failure(FailureClass.IMAGE, f"exit code {exit_code}: {command!r} {reason} in the image", exit_code)
    if exit_code > 128:
        try:
            number = signal.Signals(exit_code - 128)
        except ValueError:
            number = None
        if number in _FROM_OUTSIDE:
            return Failure(
                FailureClass.KILLED, f"ended from outside by {number.name} (exit code {exit_code})", exit_code
            )
        if number is not None:
            return Failure(FailureClass.USER_CODE, f"crashed with {number.name} (exit code {exit_code})", exit_code)
    return Failure(FailureClass.USER_CODE, f"exit code {exit_code}", exit_code)


def shell_code(code: int) -> int:
    """Return the exit code as a shell and a container say it (137) for one as Popen has it (-9)."""
    return 128 - code if code < 0 else code


def judge(code: int, launch: Launch, log_error: int | None, seconds: float) -> Exit:
    """Return how a child process ended: `code` is as Popen has it, `log_error` the errno of a log that could not be written."""
    code = shell_code(code)
    failure = classify(code, command_text(launch))
    if failure and failure.kind is FailureClass.USER_CODE:
        failure = disk_full(launch.attempt_dir / "outputs", code) or failure
    if failure is None and log_error is not None:
        failure = log_failure(log_error, launch.log, code)
    return Exit(code, failure, seconds)


def log_failure(error_number: int, log: Path, exit_code: int | None) -> Failure:
    """Return the failure of a step whose log could not be written: what it did cannot be told."""
    kind = FailureClass.DISK_FULL if error_number in (errno.ENOSPC, errno.EDQUOT) else FailureClass.ENGINE_LOST
    return Failure(kind, f"the log {log} could not be written: {os.strerror(error_number)}", exit_code)


def disk_full(folder: Path, exit_code: int | None) -> Failure | None:
    """Return a failure if the file system of `folder` has no room left: a step that failed there failed for that."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    no_inode = status.f_files > 0 and status.f_favail == 0
    if status.f_bavail * status.f_frsize >= _LITTLE_SPACE and not no_inode:
        return None
    what = "no inode" if no_inode else "no space"
    return Failure(FailureClass.DISK_FULL, f"{what} left on the disk of {folder} (exit code {exit_code})", exit_code)
