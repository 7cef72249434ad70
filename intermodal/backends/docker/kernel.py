"""What the kernel says of memory, where it can be read: of a process that it killed within moments of its start, the engine, which
began to watch too late, never hears."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

KERNEL_LOG = Path("/dev/kmsg")
_KILL = re.compile(rb"oom-kill:")
_CONTAINER = re.compile(rb"[0-9a-f]{64}")
_LONGEST_RECORD = 8192


class KernelLog:
    """The containers in which the kernel killed something for memory.

    Only root may read the kernel's log on most machines, and an engine may be on another machine: then nothing is known here.
    """

    def __init__(self, path: Path = KERNEL_LOG) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._killed: set[str] = set()

    def killed_in(self, container: str) -> bool:
        """Whether the log says that something in the container (its whole id) was killed for memory."""
        with self._lock:
            if self._descriptor is None:
                try:
                    self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    return False
            self._read(self._descriptor)
            return container in self._killed

    def _read(self, descriptor: int) -> None:
        """Take in what is new; each read gives one record."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    record = os.read(descriptor, _LONGEST_RECORD)
                except BrokenPipeError:  # records were overwritten before they were read
                    continue
                if not record:
                    return
                if _KILL.search(record):
                    self._killed.update(found.decode() for found in _CONTAINER.findall(record))

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None
