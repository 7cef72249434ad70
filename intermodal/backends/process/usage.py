"""What a supervised step uses, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from intermodal.engine.backend import Usage

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage_below(supervisor: int) -> Usage | None:
    """Return what the step of this supervisor and all that it started use together, None if there is none.

    The step leads a session of its own. Children that have ended count with their parents; shared pages count in each process.
    """
    steps = _children(supervisor)
    if not steps:
        return None
    seconds, memory = 0.0, 0
    for entry in os.scandir("/proc"):
        fields = _fields(entry.name) if entry.name.isdigit() else None
        if fields is not None and int(fields[3]) in steps:  # the session
            seconds += sum(map(int, fields[11:15])) / _TICK
            memory += int(fields[21]) * _PAGE
    return Usage(seconds, memory)


def _children(pid: int) -> set[int]:
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()))
    except OSError:
        return set()


def _fields(pid: str) -> list[str] | None:
    """Return the fields of /proc/PID/stat behind the name (proc(5) counts them from 3), None if the process is gone."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return status.rpartition(")")[2].split()
