"""One training in several processes of this machine: starts them, waits for all, and ends the rest when one fails. Standard library only.

`accelerate launch` starts processes on CPUs through MPI alone, meets at an open port, and tells a failure as a traceback of its own. What
it gives them is given here, too: RANK, LOCAL_RANK, WORLD_SIZE. They meet at a file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from components.kfp_io import StepError

LOST = 75
"""Exit code of a process whose only fault is that it cannot reach the others any more."""

_FOLDER = "INTERMODAL_TRAINER_FOLDER"
_GRACE = 10.0
"""Seconds that the others have when one has failed: what all of them find wrong, the first is to say."""


@dataclass(frozen=True)
class Member:
    """Which of the training's processes this one is, counted from 0, and the URL at which they meet."""

    rank: int
    count: int
    meeting: str


def membership() -> Member | None:
    """Return what the process that started this one made it, None if nobody did; from then on it ends when that one does."""
    folder = os.environ.get(_FOLDER)
    if folder is None:
        return None
    threading.Thread(target=_end_with_parent, daemon=True).start()
    meeting = (Path(folder) / "meeting").as_uri()
    return Member(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), meeting)


def _end_with_parent() -> None:
    """The parent holds the other end of standard input and never writes: it has an end when the parent has, however it ended."""
    while os.read(0, 1):
        pass
    os._exit(LOST)


def run_processes(command: Sequence[str], count: int) -> int:
    """Run `command` in `count` processes and return the exit code of the one that failed, 0 if none did.

    Only the first one's output is seen. If another failed for itself, what it said on stderr is said here. A process that was killed
    is one line, and 128 and the signal, as shells have it.
    """
    signal.signal(signal.SIGTERM, _terminated)
    with tempfile.TemporaryDirectory(prefix="trainer-") as name, ThreadPoolExecutor(count) as waiting:
        folder = Path(name)
        lifeline, held = os.pipe()
        workers: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(count):
                with (folder / f"{rank}.stderr").open("wb") as stderr:
                    workers.append(_start(command, rank, count, folder, lifeline, stderr))
            codes = _end_all(workers, {waiting.submit(worker.wait): rank for rank, worker in enumerate(workers)})
        finally:
            for worker in workers:
                worker.kill()
            os.close(lifeline)
            os.close(held)
        return _judge(codes, folder)


def _start(
    command: Sequence[str], rank: int, count: int, folder: Path, lifeline: int, stderr: BinaryIO
) -> subprocess.Popen[bytes]:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    environment = {**os.environ, **{key: str(value) for key, value in ranks.items()}, _FOLDER: str(folder)}
    if rank == 0:
        return subprocess.Popen(command, env=environment, stdin=lifeline)
    return subprocess.Popen(command, env=environment, stdin=lifeline, stdout=subprocess.DEVNULL, stderr=stderr)


def _end_all(workers: Sequence[subprocess.Popen[bytes]], ends: Mapping[Future[int], int]) -> dict[int, int]:
    """Return the exit code of each process that ended by itself, in the order in which they did.

    Once the first has failed there is nothing to wait for: it has said why.
    """
    codes: dict[int, int] = {}
    left = set(ends)
    while left and codes.get(0, 0) in (0, LOST):
        done, left = wait(left, timeout=_GRACE if any(codes.values()) else None, return_when=FIRST_COMPLETED)
        if not done:
            break
        codes |= {ends[end]: end.result() for end in done}
    return codes


def _judge(codes: Mapping[int, int], folder: Path) -> int:
    """Return the exit code for all, and say on stderr what was not said there yet."""
    failed = {rank: code for rank, code in codes.items() if code not in (0, LOST)}
    if not failed:
        if LOST in codes.values():
            said = [
                line
                for rank, code in codes.items()
                if rank and code == LOST
                for line in _said(folder, rank).splitlines()
            ]
            raise StepError(f"the training's processes cannot reach each other: {(said or ['nobody said why'])[-1]}")
        return 0
    rank = 0 if failed.get(0, -1) > 0 else next(iter(failed))
    code = failed[rank]
    if code < 0:
        print(f"error: process {rank} of the training was ended by {signal.Signals(-code).name}", file=sys.stderr)
        return 128 - code
    if rank > 0:
        sys.stderr.write(_said(folder, rank))
    return code


def _said(folder: Path, rank: int) -> str:
    return (folder / f"{rank}.stderr").read_text(encoding="utf-8", errors="replace")


def _terminated(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
