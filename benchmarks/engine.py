"""What the engine itself costs: a step of a chain, many independent steps, the start of the command."""

from __future__ import annotations

import heapq
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.command import compile_pipeline, environment, intermodal, timed
from benchmarks.docker_run import docker_run
from benchmarks.figures import Figure, against, within
from benchmarks.steps import chain, sleeps

_ROUNDS = 5
_STEPS = 10


def a_step_of_a_chain(folder: Path) -> list[Figure]:
    """A step's cost: a chain of eleven less a chain of one, beside ten times `docker run`, in turn."""
    short, long = compile_pipeline(chain(1), folder), compile_pipeline(chain(1 + _STEPS), folder)
    ours, peer = [], []
    intermodal(short, state=folder / "state")  # warm: images hashed, byte code compiled
    for _ in range(_ROUNDS):
        one, _ = intermodal(short, "--no-cache", state=folder / "state")
        many, _ = intermodal(long, "--no-cache", state=folder / "state")
        ours.append((many - one) / _STEPS)
        peer.append(timed(lambda: [docker_run("sh", "-c", "true") for _ in range(_STEPS)]) / _STEPS)
    return [against("a step of a chain", ours, "`docker run`", peer, 1.15)]


def hundred_steps(folder: Path) -> list[Figure]:
    """100 independent sleeps on 8 slots, beside the list-scheduling bound of sleeps that cost what `docker run` costs."""
    slots = 8
    chooser = random.Random(1)
    durations = [round(chooser.uniform(1.0, 4.0), 2) for _ in range(100)]
    path = compile_pipeline(sleeps("hundred", durations), folder)
    overhead = statistics.median(timed(lambda: docker_run("sleep", "0")) for _ in range(_STEPS))
    bound = list_schedule([seconds + overhead for seconds in durations], slots)
    took, _ = intermodal(path, "--no-cache", "--max-parallel", str(slots), state=folder / "state")
    return [against("100 independent steps, 8 at once", [took], "list-scheduling bound", [bound], 1.10)]


def list_schedule(durations: list[float], slots: int) -> float:
    """Return the makespan if each next job goes to the slot that is free first (Graham's list scheduling)."""
    free = [0.0] * slots
    for seconds in durations:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def three_sleeps(folder: Path) -> list[Figure]:
    path = compile_pipeline(sleeps("three", [3.0, 3.0, 3.0]), folder)
    times = [intermodal(path, "--no-cache", state=folder / "state")[0] for _ in range(3)]
    return [within("three 3 s sleeps together, the whole command", times, 4.2)]


def first_container(folder: Path) -> list[Figure]:
    """From Enter to the first container's start, by the engine's own clock."""
    import docker

    path = compile_pipeline(sleeps("first", [1.0]), folder)
    client = docker.from_env()
    intermodal(path, state=folder / "state")  # warm
    times = [_started(client, path, folder / "state") for _ in range(_ROUNDS)]
    client.close()
    return [within("from Enter to the first container's start, compiled YAML", times, 1.0)]


def _started(client: Any, path: Path, state: Path) -> float:
    """Run `path` and return the seconds from Enter to the first container's start."""
    entered = time.time()
    intermodal(path, "--no-cache", state=state)
    filters = {"event": "start", "label": f"io.intermodal.state={state.resolve()}"}
    events = client.events(since=int(entered), until=f"{time.time():.6f}", filters=filters, decode=True)
    return float(min(moment for event in events if (moment := event["timeNano"] / 1e9) > entered) - entered)


def help_text(folder: Path) -> list[Figure]:
    def ask() -> None:
        subprocess.run(
            [sys.executable, "-m", "intermodal", "--help"], check=True, stdout=subprocess.DEVNULL, env=environment()
        )

    ask()
    return [within("`intermodal --help`", [timed(ask) for _ in range(_ROUNDS)], 0.3)]
