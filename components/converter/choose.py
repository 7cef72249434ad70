"""Which build becomes a variant: of those that pass the gate the fastest, by times taken in turns."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from components.converter.builds import Build
from components.converter.gate import Measured
from components.converter.session import Session

ROUNDS = 5
GAIN = 0.05
"""A build must be so much faster than one that stands before it in the list, and faster in every round, to be preferred: a choice that
noise makes would give other bytes at every conversion."""

Sample = Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
"""Windows (ids, mask) to time builds on."""


@dataclass(frozen=True)
class Row:
    """What became of one build. `left_out` says why it takes no part, None if it does; `bytes` 0 if there is no file."""

    build: Build
    bytes: int = 0
    measured: Measured | None = None
    left_out: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.build.name,
            "variant": self.build.variant,
            "bytes": self.bytes,
            "measured": self.measured.as_json() if self.measured else None,
            "left_out": self.left_out,
        }


def time_builds(files: Mapping[Build, Path], sample: Sample) -> dict[Build, list[float]]:
    """Return for each build the median milliseconds a window in each round. Every file has a process; they take turns."""
    found: dict[Build, list[float]] = {build: [] for build in files}
    with ExitStack() as stack:
        sessions = {build: stack.enter_context(Session(file)) for build, file in files.items()}
        for number in range(ROUNDS + 1):
            for build, session in sessions.items():
                taken = []
                session.infer(*sample[0])  # while the threads of the one before still spin
                for ids, mask in sample:
                    session.infer(ids, mask)
                    taken.append(session.milliseconds)
                if number:  # the first round warms up
                    found[build].append(statistics.median(taken))
    return found


def fastest(times: Mapping[Build, Sequence[float]]) -> Build:
    """Return the first build that none after it clearly beats; `times` are in the order of preference."""
    builds = list(times)
    best = builds[0]
    for build in builds[1:]:
        ratios = [theirs / ours for ours, theirs in zip(times[build], times[best], strict=True)]
        if min(ratios) > 1 and statistics.median(ratios) > 1 + GAIN:
            best = build
    return best
