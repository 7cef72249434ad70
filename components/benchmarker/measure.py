"""Runs the workers: one process a variant, rounds interleaved, and what the samples can carry."""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from components.benchmarker.bundle import Candidate
from components.benchmarker.settings import Settings
from components.kfp_io import StepError
from components.ner.formats import load_split

_LEAST = {"p50": 20, "p90": 50, "p95": 100, "p99": 500}
"""Requests that a percentile needs: five beyond it, or a hiccup or two would decide it. With fewer it is not given."""


class Process:
    """A worker for one candidate."""

    def __init__(self, candidate: Candidate, dataset: Path, threads: int) -> None:
        self._name = candidate.name
        command = [sys.executable, "-m", "components.benchmarker.worker"]
        command += [str(candidate.folder), candidate.variant, str(dataset), str(threads)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.id = int(self._read()["process"])

    def ask(self, command: Mapping[str, Any]) -> Any:
        if self._child.stdin is None:
            raise AssertionError("the worker was started with a pipe")
        with suppress(BrokenPipeError):  # it is gone: reading finds out how it ended
            self._child.stdin.write(json.dumps(command) + "\n")
            self._child.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        line = self._child.stdout.readline() if self._child.stdout else ""
        if not line:
            code = self._child.wait()
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise StepError(f"{self._name}: its worker {ended}")
        return json.loads(line)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.stdin:
            with suppress(BrokenPipeError):  # what a dead worker never read
                self._child.stdin.close()
        try:
            self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def thread_count() -> int:
    """Return the threads of a session: what the engine granted (OMP_NUM_THREADS), else the CPUs that this process may use."""
    granted = os.environ.get("OMP_NUM_THREADS", "")
    return int(granted) if granted.isdigit() and int(granted) > 0 else len(os.sched_getaffinity(0))


def measure(candidates: Sequence[Candidate], dataset: Path, settings: Settings) -> list[dict[str, Any]]:
    """Return one entry a candidate, in order. Raises StepError if a worker dies."""
    for split in ("validation", "test"):
        if not load_split(dataset, split):
            raise StepError(
                f"{dataset}: its {split} split is empty", hint="a candidate is scored on both and timed on test"
            )
    draw = random.Random(settings.seed)
    orders = [[draw.randrange(10**6) for _ in range(settings.requests)] for _ in range(settings.rounds)]
    turns: list[list[dict[str, Any]]] = [[] for _ in candidates]
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(candidate, dataset, thread_count())) for candidate in candidates]
        scores = [process.ask({"score": True}) for process in processes]
        for number, order in enumerate(orders):
            # The order of variants turns too, so that none always follows the same other.
            for index in sorted(range(len(processes)), key=lambda i: (i + number) % len(processes)):
                processes[index].ask({"time": order[: settings.warmup]})
                turns[index].append(processes[index].ask({"time": order}))
            print(f"round {number + 1} of {settings.rounds}", flush=True)
        ids = [process.id for process in processes]
    begin = min(turn["start"] for taken in turns for turn in taken)
    return [_entry(*item, begin) for item in zip(candidates, ids, turns, scores, strict=True)]


def _entry(
    candidate: Candidate, process: int, turns: list[dict[str, Any]], scores: dict[str, Any], begin: int
) -> dict[str, Any]:
    """Return all that is known of a candidate; `turns` say when it was its turn, in seconds from the first of all."""
    samples = [value for turn in turns for value in turn["ms"]]
    seconds = sum(samples) / 1000
    return {
        "backbone": candidate.backbone,
        "variant": candidate.variant,
        "bundle_sha256": candidate.manifest["variants"][candidate.variant]["sha256"],
        "bytes": candidate.bytes,
        "hyperparameters": candidate.manifest["hyperparameters"],
        "latency_ms": percentiles(samples),
        "throughput": {
            "documents_per_second": len(samples) / seconds,
            "characters_per_second": sum(turn["characters"] for turn in turns) / seconds,
        },
        "process": process,
        "turns": [
            {
                "start": (turn["start"] - begin) / 1e9,
                "end": (turn["end"] - begin) / 1e9,
                "p50_ms": float(np.quantile(turn["ms"], 0.5)),
            }
            for turn in turns
        ],
        "scores": scores,
    }


def percentiles(samples: Sequence[float]) -> dict[str, float | None]:
    """Return p50, p90, p95, p99 (None where the sample is too small), mean and the number of requests."""
    found: dict[str, float | None] = {
        name: float(np.quantile(samples, int(name[1:]) / 100)) if len(samples) >= least else None
        for name, least in _LEAST.items()
    }
    return {**found, "mean": float(np.mean(samples)), "requests": len(samples)}


def machine() -> dict[str, Any]:
    """Return what the figures depend on. Call it before measuring: the load is then that of others."""
    import onnxruntime

    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": thread_count(),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "onnxruntime": onnxruntime.__version__,
        "session": "intra-op threads as above, inter-op 1, sequential, all graph optimisations, spinning (onnxruntime's default)",
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
