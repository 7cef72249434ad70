"""A processor of its own for each thread of a runtime that is timed: left to itself the kernel may keep two of them on one for seconds,
and a time would say more of that than of the model. onnxruntime does the same where it chooses the number of its threads itself.

Only for a step that has the machine to itself: two that did so side by side would share the first processors, whatever others there are.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any


def processors(threads: int) -> list[int]:
    """Return a processor for each thread; none if this process has fewer, or the number of threads is left open (0)."""
    mine = sorted(os.sched_getaffinity(0))
    return mine[:threads] if 0 < threads <= len(mine) else []


def pin_onnxruntime(options: Any, threads: int) -> None:
    """Give the threads of a session of `options` (a SessionOptions) a processor each, the calling one the first."""
    options.intra_op_num_threads = threads
    first, *others = processors(threads) or [None]
    if first is None:
        return
    if others:  # onnxruntime counts processors from 1
        words = ";".join(str(number + 1) for number in others)
        options.add_session_config_entry("session.intra_op_thread_affinities", words)
    os.sched_setaffinity(0, {first})


def pin_openmp(environment: MutableMapping[str, str], threads: int) -> None:
    """The same for a runtime on OpenMP, such as PyTorch, that is not imported yet."""
    if places := processors(threads):
        environment["OMP_PLACES"] = ",".join(f"{{{number}}}" for number in places)
        environment["OMP_PROC_BIND"] = "true"
