"""The noise guard: what this machine, in this hour, could tell apart; and comparisons that say so."""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_STEAL_LIMIT = 0.05
"""Share of the processor time that the hypervisor gave to others, above which nothing is believed."""


def yardstick(threads: int) -> float:
    """Return the milliseconds that `threads` threads take to hash 16 MiB each: the machine's speed, measured the same in every image.

    Each has a processor of its own: left to itself the kernel may begin with two on one, in one image and not in the other. The shortest
    of seven, the slowest thread of each: a hiccup is no property of the machine, and the A-A test sees those.
    """
    block = bytes(16 << 20)
    processors = sorted(os.sched_getaffinity(0))

    def once() -> float:
        gate, taken = threading.Barrier(threads), [0.0] * threads

        def work(number: int) -> None:
            os.sched_setaffinity(0, {processors[number % len(processors)]})  # of this thread alone
            gate.wait()
            begin = time.perf_counter()
            hashlib.sha256(block).digest()
            taken[number] = (time.perf_counter() - begin) * 1000

        pool = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        return max(taken)

    return min(once() for _ in range(7))


class Steal:
    """The share of processor time that was taken from this machine since `Steal()`; None where the kernel does not say."""

    def __init__(self) -> None:
        self._before = self._read()

    def share(self) -> float | None:
        after = self._read()
        if self._before is None or after is None:
            return None
        total = after[0] - self._before[0]
        return (after[1] - self._before[1]) / total if total > 0 else 0.0

    @staticmethod
    def _read() -> tuple[int, int] | None:
        try:
            fields = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        return (sum(fields), fields[7]) if len(fields) == 8 else None


def guard(
    twin: str,
    first: Sequence[float],
    second: Sequence[float],
    sticks: Sequence[float],
    steal: float | None,
    limit: float,
) -> dict[str, Any]:
    """Return the verdict on a whole run.

    `first` and `second` are the round medians of one file in two processes (an A-A test): the largest difference in a round is the
    `resolution`, below which no two candidates are said to differ. The run is inconclusive if the resolution, or the spread of the
    yardstick over the rounds, is above `limit`, or if the hypervisor took more than 5 % of the time.
    """
    resolution = max(abs(b / a - 1) for a, b in zip(first, second, strict=True))
    drift = max(sticks) / statistics.median(sticks) - 1
    why = []
    if resolution > limit:
        why.append(f"two processes of {twin} differ by up to {resolution:.0%} in a round")
    if drift > limit:
        why.append(f"the machine was up to {drift:.0%} slower in one round than in most")
    if steal is not None and steal > _STEAL_LIMIT:
        why.append(f"other virtual machines took {steal:.0%} of the processor time")
    return {
        "verdict": "inconclusive" if why else "steady",
        "why": why,
        "limit": limit,
        "resolution": resolution,
        "twin": twin,
        "steal": steal,
        "yardstick_ms": list(sticks),
    }


def compare(
    name: str, samples: Sequence[Sequence[float]], than: str, others: Sequence[Sequence[float]], resolution: float
) -> dict[str, Any]:
    """Return how many times faster `name` is than `than` at p50, over rounds in which both had the same documents.

    `speedup` is the median of the rounds' ratios, `low` and `high` the smallest and the largest. It is a difference only if every round
    has it, and it is larger than what two processes of one file showed; else the verdict is inconclusive.
    """
    ratios = [
        float(np.median(theirs[: len(ours)]) / np.median(ours[: len(theirs)]))
        for ours, theirs in zip(samples, others, strict=True)
    ]
    middle = statistics.median(ratios)
    verdict = "inconclusive"
    if min(ratios) > 1 and middle > 1 + resolution:
        verdict = "faster"
    elif max(ratios) < 1 and 1 / middle > 1 + resolution:
        verdict = "slower"
    return {"name": name, "than": than, "speedup": middle, "low": min(ratios), "high": max(ratios), "verdict": verdict}


def apart(here: Mapping[str, Any], there: Mapping[str, Any], limit: float) -> str | None:
    """Return why figures of two runs cannot be compared, None if they can: the yardstick must have been the same length in both."""
    ratio = statistics.median(here["yardstick_ms"]) / statistics.median(there["yardstick_ms"])
    if max(ratio, 1 / ratio) - 1 > limit:
        return f"the machine was {max(ratio, 1 / ratio):.2f} times as fast in one of the two runs"
    return None
