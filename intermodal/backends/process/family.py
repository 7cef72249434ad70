"""All that a step started, wherever it has gone: into another session, or left behind by a parent that ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PAUSE = 0.02
_SECONDS = 10.0


def keep_orphans() -> None:
    """Make this process the parent of whatever its descendants leave behind (`PR_SET_CHILD_SUBREAPER`, Linux 3.4)."""
    _prctl()(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> Callable[[], None]:
    """Return what a new child calls so that it is killed when this process is."""
    prctl = _prctl()  # found here: after a fork nothing may be loaded
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl() -> Callable[[int, int], None]:
    library = ctypes.CDLL(None, use_errno=True)

    def call(option: int, value: int) -> None:
        library.prctl(option, value, 0, 0, 0)  # where it is not allowed the step still ends with its process group

    return call


def descendants(pid: int) -> list[int]:
    """Return every living process below `pid`."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (parent := _parent(entry.name)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _parent(pid: str) -> int | None:
    """Return the parent of a process, None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = status.rpartition(")")[2].split()[:2]
    return None if state in ("Z", "X") else int(parent)


def kill_descendants(but: int | None = None) -> None:
    """Kill all that is below this process; asked again until nothing is left, because what dies may just have forked.

    The child `but` is killed too, and left to be reaped by whoever started it.
    """
    deadline = time.monotonic() + _SECONDS
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for _ in orphans(but=but):
            pass
        time.sleep(_PAUSE)


def orphans(*, but: int | None) -> Iterator[int]:
    """Reap and yield children that have ended, all but one: its end is for whoever started it."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == but:
            return
        with contextlib.suppress(ChildProcessError):
            os.waitpid(ended.si_pid, os.WNOHANG)
        yield ended.si_pid
