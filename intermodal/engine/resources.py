"""Requests and limits of tasks, and the ledger that says who may start."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from intermodal.engine.backend import Limits
from intermodal.engine.placeholders import Context, resolve
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import Resources

_MEMORY_UNITS = {
    "": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50,
}  # fmt: skip
_NVIDIA = re.compile(r"nvidia\.com/gpu|NVIDIA_.+")
"""As Kubernetes and as Vertex name them. A slice of one (`nvidia.com/mig-…`) cannot be asked of a container engine."""
_QUANTITY = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?P<unit>[A-Za-z]*)")


@dataclass(frozen=True)
class Demand:
    """What a task takes of the machine: CPUs, bytes of memory, GPUs."""

    cpus: float = 0.0
    memory: int = 0
    gpus: int = 0

    def __add__(self, other: Demand) -> Demand:
        return Demand(self.cpus + other.cpus, self.memory + other.memory, self.gpus + other.gpus)

    def __sub__(self, other: Demand) -> Demand:
        return Demand(self.cpus - other.cpus, self.memory - other.memory, self.gpus - other.gpus)

    def fits(self, room: Demand) -> bool:
        return self.cpus <= room.cpus + 1e-9 and self.memory <= room.memory and self.gpus <= room.gpus


def parse_cpus(written: str, place: str) -> float | None:
    """Return CPUs from a Kubernetes quantity (`2`, `0.5`, `500m`); None if empty. Raises BadInput naming `place`."""
    if not written:
        return None
    match = _QUANTITY.fullmatch(written)
    if not match or match["unit"] not in ("", "m"):
        raise BadInput(f"{place}: {written!r} is not a number of CPUs", hint="write 2, 0.5 or 500m")
    cpus = float(match["number"]) / (1000 if match["unit"] == "m" else 1)
    if cpus <= 0:
        raise BadInput(f"{place}: {written!r} CPUs: must be above 0")
    return cpus


def parse_memory(written: str, place: str) -> int | None:
    """Return bytes from a Kubernetes quantity (`4Gi`, `500M`, `1e9`); None if empty. Raises BadInput naming `place`."""
    if not written:
        return None
    match = _QUANTITY.fullmatch(written)
    if not match or match["unit"] not in _MEMORY_UNITS:
        raise BadInput(f"{place}: {written!r} is not an amount of memory", hint="write 512Mi, 4Gi or 2G")
    return math.ceil(float(match["number"]) * _MEMORY_UNITS[match["unit"]])


def demand_of(resources: Resources, context: Context, task: str) -> tuple[Demand, Limits]:
    """Resolve a task's resources: what the ledger reserves (the request, else the limit) and the container's limits.

    A request without a limit reserves but does not cap. Raises BadInput naming the task and the value, Unsupported for an
    accelerator that is no NVIDIA GPU.
    """
    cpu_limit = parse_cpus(resolve(resources.cpu_limit, context), f"{task}: CPU limit")
    cpu_request = parse_cpus(resolve(resources.cpu_request, context), f"{task}: CPU request")
    memory_limit = parse_memory(resolve(resources.memory_limit, context), f"{task}: memory limit")
    memory_request = parse_memory(resolve(resources.memory_request, context), f"{task}: memory request")
    gpus = _gpus(resolve(resources.accelerator_type, context), resolve(resources.accelerator_count, context), task)
    demand = Demand(
        cpus=cpu_request if cpu_request is not None else cpu_limit or 0.0,
        memory=memory_request if memory_request is not None else memory_limit or 0,
        gpus=gpus,
    )
    return demand, Limits(cpus=cpu_limit, memory=memory_limit, gpus=gpus)


def _gpus(kind: str, written: str, task: str) -> int:
    if not kind:
        return 0
    match = re.fullmatch(r"(\d+)(\.0*)?", written or "1")
    if match is None:
        raise BadInput(f"{task}: accelerator count {written!r} is not a whole number")
    count = int(match[1])
    if count and not _NVIDIA.fullmatch(kind):
        raise Unsupported(
            f"{task}: accelerator {kind!r} is not supported: a step can be given NVIDIA GPUs, whole ones",
            hint="nvidia.com/gpu, or no accelerator",
        )
    return count


def thread_environment(cpus: float) -> dict[str, str]:
    """Return the variables from which numeric libraries take their number of threads, for a step that holds `cpus` (0: any).

    Without them each library starts a thread per core of the machine and they fight over the step's share.
    """
    if not cpus:
        return {}
    threads = str(max(1, int(cpus)))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
    return dict.fromkeys(names, threads)


def machine() -> Demand:
    """Return what this process may use of the machine: CPUs by affinity, physical memory less a tenth, NVIDIA's GPUs."""
    gpus = sum(1 for _ in Path("/dev").glob("nvidia[0-9]*"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Demand(cpus=float(len(os.sched_getaffinity(0))), memory=int(memory * 0.9), gpus=gpus)


class Ledger:
    """Who holds how much of the machine. Not thread-safe: the scheduler alone uses it.

    `slots` bounds the number of attempts at once, whatever they ask for; most tasks of most pipelines ask for nothing.
    """

    def __init__(self, total: Demand, slots: int) -> None:
        self.total = total
        self.free = total
        self.slots = slots

    def check(self, demand: Demand, task: str) -> None:
        """Raise BadInput if `demand` can never be met here."""
        if not demand.fits(self.total):
            raise BadInput(
                f"{task}: asks for {_shown(demand, demand)}; this machine has {_shown(self.total, demand)}",
                hint="lower the request in the pipeline, or the argument that sets it",
            )

    @property
    def full(self) -> bool:
        """Whether no attempt at all may start now."""
        return self.slots < 1

    def seize(self, demand: Demand) -> None:
        """Reserve for what runs already, room or not."""
        self.slots -= 1
        self.free = self.free - demand

    def take(self, demand: Demand) -> bool:
        """Reserve `demand` if there is room now."""
        if self.slots < 1 or not demand.fits(self.free):
            return False
        self.slots -= 1
        self.free = self.free - demand
        return True

    def give(self, demand: Demand) -> None:
        self.slots += 1
        self.free = self.free + demand


def _shown(what: Demand, asked: Demand) -> str:
    """Return `what` in words, as far as any of it is asked for."""
    shown = []
    if asked.cpus:
        shown.append(f"{what.cpus:g} CPU" + ("" if what.cpus == 1 else "s"))
    if asked.memory:
        shown.append(f"{what.memory / 2**30:.1f} GiB")
    if asked.gpus:
        shown.append(f"{what.gpus} GPU" + ("" if what.gpus == 1 else "s"))
    return ", ".join(shown)
