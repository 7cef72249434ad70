"""Temporary files and folders that a killed process leaves behind: named for their owner, so that the next one can tell and sweep."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Temporary:
    """A folder for temporary things of any number of processes, made when it is needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Make a folder that is gone when this ends."""
        path = self.root / owned_name()
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            discard(path)

    def sweep(self) -> int:
        """Remove what processes that are gone left; return how many things that were."""
        left = [path for path in self.root.glob("*") if not owner_lives(path.name)]
        for path in left:
            discard(path)
        return len(left)


def owned_name() -> str:
    """Return a unique name for a temporary thing of this process; `owner_lives` reads it."""
    return f"{boot_id()[:8]}-{_namespace()}-{os.getpid()}-{_start_ticks(os.getpid())}-{uuid.uuid4().hex}"


def owner_lives(name: str) -> bool:
    """Whether the process that chose a temporary name may still live. A name of another form has no owner.

    Of a process in another container that shares the folder nothing can be seen: it counts as living.
    """
    boot, namespace, pid, ticks = [*name.split("-"), "", "", ""][:4]
    if not pid.isdigit() or boot != boot_id()[:8]:
        return False
    return namespace != _namespace() or _start_ticks(int(pid)) == ticks


def boot_id() -> str:
    """Return what names this start of the machine; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    """Return what names the set of process ids that this process sees."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _start_ticks(pid: int) -> str:
    """Return when a process began, in ticks since boot: with the pid it names the process. Empty if there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return status.rpartition(")")[2].split()[19]


def discard(path: Path) -> None:
    """Remove a file or folder of ours, if it is there, whatever a step made of it."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    with contextlib.suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # folders a thousand deep, or closed to their owner
        for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(path)], check=False, capture_output=True)
