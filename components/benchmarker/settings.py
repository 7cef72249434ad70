"""Settings of the benchmark, typed and checked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from components.kfp_io import StepError


@dataclass(frozen=True)
class Settings:
    """rounds: turns of each variant, interleaved. requests: single documents a turn. warmup: untimed ones before. seed: their order."""

    rounds: int = 5
    requests: int = 100
    warmup: int = 5
    seed: int = 13


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
        least = 0 if name in ("warmup", "seed") else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise StepError(f"benchmark setting {name} is {value!r}, it must be a whole number of at least {least}")
    return Settings(**{**asdict(Settings()), **values})
