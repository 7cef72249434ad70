"""Turning what the engine says into an Exit or a Failure."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from typing import Any

import docker.errors
from docker import APIClient

from intermodal.backends.docker.client import explain
from intermodal.backends.docker.kernel import KernelLog
from intermodal.backends.exits import classify, command_text, disk_full, out_of_memory
from intermodal.engine.backend import Exit, Launch, Usage
from intermodal.engine.failure import Failure, FailureClass

_NO_SPACE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
_NO_GPU = re.compile(r"could not select device driver|nvidia|unresolvable CDI devices", re.IGNORECASE)
_EVENT_TRIES = 8
_EVENT_PAUSE = 0.1
_KILLED = 128 + signal.SIGKILL


def start_failure(error: docker.errors.APIError, launch: Launch) -> Failure:
    """Return the failure for a container that the engine would not create or start."""
    text = explain(error)
    if launch.limits.gpus and _NO_GPU.search(text):
        asked = f"{launch.task}: asks for {launch.limits.gpus} GPU{'s' * (launch.limits.gpus > 1)}"
        return Failure(
            FailureClass.IMAGE, f"{asked}, and the engine cannot give any (NVIDIA Container Toolkit): {text}"
        )
    if no_space(text):
        return Failure(FailureClass.DISK_FULL, f"no space left for a container of {launch.image.reference}: {text}")
    if isinstance(error, docker.errors.NotFound):
        return Failure(FailureClass.IMAGE, f"image {launch.image.reference} is gone: {text}")
    return Failure(
        FailureClass.IMAGE, f"{command_text(launch)!r} cannot be started in {launch.image.reference}: {text}"
    )


def no_space(text: str) -> bool:
    """Whether the engine complains that a disk is full."""
    return bool(_NO_SPACE.search(text))


def engine_lost(detail: str) -> Failure:
    return Failure(FailureClass.ENGINE_LOST, f"the Docker engine {detail}")


def read_exit(client: APIClient, kernel: KernelLog, container: str, state: Mapping[str, Any], launch: Launch) -> Exit:
    """Return how an ended container ended. `state` is the engine's `State` of it."""
    code = int(state["ExitCode"])
    seconds = _seconds(state)
    noticed = state.get("OOMKilled") or kernel.killed_in(container)
    may_be_memory = bool(launch.limits.memory) or code == _KILLED
    if noticed or (may_be_memory and _oom_event(client, container, state, code)):
        return Exit(code, out_of_memory(code, launch.limits.memory), seconds)
    error = str(state.get("Error") or "")
    if error and code != 0:
        kind = FailureClass.DISK_FULL if no_space(error) else FailureClass.IMAGE
        return Exit(code, Failure(kind, f"the container could not run: {error}", code), seconds)
    failure = classify(code, command_text(launch))
    if failure and failure.kind is FailureClass.USER_CODE:
        failure = disk_full(launch.attempt_dir / "outputs", code) or failure
    return Exit(code, failure, seconds)


def _oom_event(client: APIClient, container: str, state: Mapping[str, Any], code: int) -> bool:
    """Whether the engine saw an out-of-memory event of the container.

    The kernel's notice and the end of the process race to the engine: an OOM noticed second is missing from the flag,
    but not from the events. Only a SIGKILL that nobody asked the engine for makes it worth waiting for.
    """
    if not _started(state):
        return False
    for attempt in range(_EVENT_TRIES if code == _KILLED else 1):
        if attempt:
            time.sleep(_EVENT_PAUSE)
        events = client.events(
            since=int(_moment(state["StartedAt"]).timestamp()),
            until=f"{time.time():.6f}",
            filters={"container": container, "event": ["oom", "kill"]},
            decode=True,
        )
        with closing(events):
            seen = {event.get("Action") for event in events}
        if "oom" in seen:
            return True
        if "kill" in seen:
            return False
    return False


def _started(state: Mapping[str, Any]) -> bool:
    return not str(state.get("StartedAt", "0001")).startswith("0001")


def _moment(text: str) -> datetime:
    """Parse the engine's time, whose fraction has up to nine digits."""
    match = re.fullmatch(r"(.*?)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if match is None:
        raise ValueError(f"not a time of the engine: {text!r}")
    return datetime.fromisoformat(match[1] + (match[2] or ".0")[:7].ljust(7, "0") + match[3].replace("Z", "+00:00"))


def _seconds(state: Mapping[str, Any]) -> float:
    if not _started(state) or str(state.get("FinishedAt", "0001")).startswith("0001"):
        return 0.0
    return max(0.0, (_moment(state["FinishedAt"]) - _moment(state["StartedAt"])).total_seconds())


def read_usage(stats: Mapping[str, Any]) -> Usage | None:
    """Return what the engine's statistics say, None if they are those of a container that has ended.

    As `docker stats` counts: without the part of the page cache that the kernel could take back.
    """
    memory, cpu = stats.get("memory_stats") or {}, (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
    if "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    reclaimable = details.get("inactive_file", details.get("total_inactive_file", 0))
    return Usage(cpu.get("total_usage", 0) / 1e9, max(0, memory["usage"] - reclaimable))
