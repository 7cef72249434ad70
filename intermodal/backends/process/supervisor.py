"""The small program that stands between the engine and one step, so that a step outlives the command that started it.

    python supervisor.py SPECIFICATION.json

It runs the step in a session of its own, writes the capped log, passes SIGTERM on to the step's whole process group and
turns SIGUSR1 into SIGKILL of all that the step started. It writes `exit.json` (whole or not at all) and ends; what the step
left behind is killed, wherever it has gone. If this program is killed, the step is. Its own standard streams are /dev/null.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from intermodal.backends.children import follow, signal_group, spawn
from intermodal.backends.logs import LogWriter
from intermodal.backends.process.family import die_with_parent, keep_orphans, kill_descendants, orphans
from intermodal.backends.process.memory import memory_kills


def supervise(specification: dict[str, Any]) -> dict[str, Any]:
    """Run the step to its end and return what is known of it."""
    before = memory_kills()
    started = time.monotonic()
    keep_orphans()
    stopper = _Stopper()
    with LogWriter(Path(specification["log"]), specification["log_cap"]) as log:
        try:
            child = spawn(specification["argv"], specification["cwd"], specification["env"], die_with_parent())
        except OSError as error:
            return {"start_error": error.strerror or str(error), "seconds": 0.0}
        stopper.watch(child)
        code = follow(child, log)
        kill_descendants()
    after = memory_kills()
    return {
        "code": code,
        "seconds": time.monotonic() - started,
        "log_error": (log.problem.errno or 0) if log.problem else None,
        "oom": before is not None and after is not None and after > before,
    }


class _Stopper:
    """Passes signals on to the step; one that comes before the step is there waits for it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._pending: list[signal.Signals] = []
        signal.signal(signal.SIGTERM, lambda *_: self._send(signal.SIGTERM))
        signal.signal(signal.SIGUSR1, lambda *_: self._send(signal.SIGKILL))
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())

    def watch(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        for number in self._pending:
            signal_group(child, number)

    def _send(self, number: signal.Signals) -> None:
        if self._child is None:
            self._pending.append(number)
            return
        signal_group(self._child, number)
        if number == signal.SIGKILL:
            kill_descendants(but=self._child.pid)

    def _reap(self) -> None:
        """Let orphans of the step that have ended go."""
        if self._child is not None:
            for _ in orphans(but=self._child.pid):
                pass


def start_time(pid: int | str) -> int | None:
    """Return when a process started, in ticks since boot; None if there is none (a zombie has ended)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def write_handle(path: Path) -> None:
    """Leave word of who this is, whole or not at all, for a runner that did not see this process start."""
    temporary = path.with_name("handle.tmp")
    temporary.write_text(f"{os.getpid()}:{start_time('self')}", encoding="ascii")
    temporary.replace(path)


def main() -> None:
    """Entry point: read the specification, supervise, write `exit.json` beside it."""
    path = Path(sys.argv[1])
    specification = json.loads(path.read_text(encoding="utf-8"))
    write_handle(path.with_name("handle"))
    path.unlink()  # its environment may hold secrets
    result = supervise(specification)
    shutil.rmtree(path.with_name("tmp"), ignore_errors=True)
    temporary = path.with_name("exit.json.tmp")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(path.with_name("exit.json"))


if __name__ == "__main__":
    main()
