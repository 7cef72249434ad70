"""What a step tells of its training: a file that every attempt gets, and that stays beside the attempt's log.

A step appends JSON lines to it (`components/tracking_file.py` says which). It decides nothing about the step: one that tells nothing, or
nonsense, is as green as any. While the step runs the file is among its outputs, the only folder that it can write; then it is moved.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

VARIABLE = "INTERMODAL_TRACKING_FILE"
_NAME = "tracking.jsonl"
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def told_path(root: PurePosixPath) -> str:
    """Return the file's path as the step sees it; `root` is its attempt's folder as it sees that."""
    return str(root / "outputs" / _NAME)


def keep_told(folder: Path) -> None:
    """Move the file out of the outputs of an attempt that ended. Nothing happens if there is none, or no room to move it."""
    with contextlib.suppress(OSError):
        if stat.S_ISREG((folder / "outputs" / _NAME).lstat().st_mode):
            (folder / "outputs" / _NAME).rename(folder / _NAME)


def open_told(folder: Path) -> BinaryIO | None:
    """Open the file of an attempt, ended or not; None if the step told nothing. A link or a FIFO in its place counts as nothing."""
    for path in (folder / _NAME, folder / "outputs" / _NAME):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, _FILE)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return os.fdopen(descriptor, "rb")
            os.close(descriptor)
    return None
