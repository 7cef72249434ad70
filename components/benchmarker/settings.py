"""Settings of the benchmark, typed and checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from components.kfp_io import StepError


@dataclass(frozen=True)
class Settings:
    """What is measured, and how long.

    rounds: turns of each variant, interleaved. requests: single documents a turn. warmup: untimed ones before. seed: which documents,
    in which order, and when requests arrive. baseline_requests: of each turn's documents, those that PyTorch, and the second process of
    the smallest file, are measured on, too.
    cold_starts: processes started to see how long the first answer takes. offline_batch: windows at once in the Offline scenario;
    0: none. server_ms: the bound on p99 in the Server scenario, in milliseconds; 0: none. thread_sweep: 1 measures also with fewer
    threads. noise_percent: two processes of one file that differ by more make the result inconclusive.
    """

    rounds: int = 5
    requests: int = 134
    warmup: int = 5
    seed: int = 13
    baseline_requests: int = 26
    cold_starts: int = 2
    offline_batch: int = 8
    server_ms: int = 0
    thread_sweep: int = 0
    noise_percent: int = 10


_FROM_ZERO = ("warmup", "seed", "offline_batch", "server_ms", "thread_sweep")


def parse_settings(values: Any) -> Settings:
    """Return the settings of a JSON object. Raises StepError for an unknown key (with the closest) or a value that is no count."""
    if not isinstance(values, Mapping):
        raise StepError(f"--settings must be a JSON object, got {values!r}")
    known = [field.name for field in fields(Settings)]
    for name, value in values.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            raise StepError(
                f"unknown benchmark setting {name!r}",
                hint=f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}",
            )
        least = 0 if name in _FROM_ZERO else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise StepError(f"benchmark setting {name} is {value!r}, it must be a whole number of at least {least}")
    return Settings(**{**asdict(Settings()), **values})
