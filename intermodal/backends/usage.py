"""What a step without a container uses, read from /proc."""

from __future__ import annotations

import os
from pathlib import Path

from intermodal.engine.backend import Usage

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage_below(supervisor: int) -> Usage | None:
    """Return what the step of a supervisor uses, None if it has none."""
    return usage_of_sessions(_children(supervisor))


def usage_of_sessions(leaders: set[int]) -> Usage | None:
    """Return what the processes of sessions use together, None if there are none.

    Children that have ended count with their parents; pages that processes share count in each.
    """
    if not leaders:
        return None
    found = False
    seconds, memory = 0.0, 0
    for entry in os.scandir("/proc"):
        fields = _fields(entry.name) if entry.name.isdigit() else None
        if fields is not None and int(fields[3]) in leaders:  # its session
            found = True
            seconds += sum(map(int, fields[11:15])) / _TICK
            memory += int(fields[21]) * _PAGE
    return Usage(seconds, memory) if found else None


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
