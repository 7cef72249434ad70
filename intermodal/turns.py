"""Taking turns among processes: a lock file, of which the kernel lets go when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from intermodal.errors import EnvironmentProblem

_LOOK = 0.05
"""Seconds between two looks at a lock that another process holds."""


class Busy(EnvironmentProblem):
    """Another process has had the turn for longer than this one was to wait."""


@contextmanager
def alone(path: Path, what: str, patience: float = math.inf) -> Iterator[int]:
    """Be the one process that does `what`: hold the file `path`, made if absent, and keep the holder's process id in it.
    Gives the descriptor: a child that inherits it has the turn, too.

    Raises Busy, which names the holder, if another process does so for longer than `patience` seconds; OSError where the disk does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, path, what, patience)
        with contextlib.suppress(OSError):  # a full disk: nobody learns who it is
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, what: str, patience: float) -> None:
    if patience == math.inf:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                word = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise Busy(
                    f"{what}: {f'process {word}' if word.isdigit() else 'another process'} is at it, and did not end"
                    f" within {patience:.0f} s",
                    hint=f"wait for it, or end it if it hangs; it holds {path}",
                ) from None
        time.sleep(_LOOK)
