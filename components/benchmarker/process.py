"""The workers as their parent sees them: started, asked, ended, and reported by name if they die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from components.benchmarker.bundle import Candidate
from components.kfp_io import StepError


class Process:
    """A worker for one candidate."""

    def __init__(self, candidate: Candidate, dataset: Path, threads: int) -> None:
        self._name = candidate.name
        given = {**candidate.as_json(), "dataset": str(dataset), "threads": threads}
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        # The torch image lets threads sleep while they wait, for the sake of training on busy machines. It must not slow down what
        # onnxruntime, whose threads spin, is compared with.
        environment.pop("OMP_WAIT_POLICY", None)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "components.benchmarker.worker", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.id = int(self._read()["process"])

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return the worker's answer. Raises StepError with the candidate's name if the worker is gone."""
        if self._child.stdin is None:
            raise AssertionError("the worker was started with a pipe")
        with suppress(BrokenPipeError):  # it is gone: reading finds out how it ended
            self._child.stdin.write(json.dumps({command: arguments}) + "\n")
            self._child.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        line = self._child.stdout.readline() if self._child.stdout else ""
        answer = json.loads(line) if line else None
        if answer is None or (isinstance(answer, dict) and "refused" in answer):
            self._close()
            code = self._child.returncode
            if answer is not None:
                raise StepError(f"{self._name}: its model cannot be run: {answer['refused']}")
            raise StepError(
                f"{self._name}: its worker "
                + (f"was ended by signal {-code}" if code < 0 else f"ended with code {code}")
            )
        return answer

    def _close(self) -> None:
        if self._child.stdin:
            with suppress(BrokenPipeError):  # what a dead worker never read
                self._child.stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def cold_start(candidate: Candidate, dataset: Path, threads: int) -> float:
    """Return the milliseconds from the start of a new process to its first answer. The files may be in the page cache."""
    begin = time.perf_counter()
    with Process(candidate, dataset, threads) as process:
        process.ask("time", order=[0])
        return (time.perf_counter() - begin) * 1000


def thread_count() -> int:
    """Return the threads of a session: what the engine granted (OMP_NUM_THREADS), else the CPUs that this process may use."""
    granted = os.environ.get("OMP_NUM_THREADS", "")
    return int(granted) if granted.isdigit() and int(granted) > 0 else len(os.sched_getaffinity(0))
