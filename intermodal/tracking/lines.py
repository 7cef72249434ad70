"""Reading what a step told, piece by piece: it may be long, half written, or nonsense. Of nonsense the good lines count."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intermodal.engine.told import open_told

_PIECE = 512 * 1024
"""Bytes that are read at once; a longer line is skipped."""
MOST_BYTES = 256 * 1024 * 1024
"""Of one attempt's file; what comes after is not sent."""
_NAME = re.compile(r"[^\w\-. /:]", re.ASCII)
_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_TAG = 250, 6000, 5000
"""What MLflow takes."""


@dataclass
class Told:
    """What a piece of the file says about one run: the attempt's own, or a trial's."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)
    """As MLflow takes them: key, value, timestamp (ms), step."""
    study: str = ""
    state: str = ""
    """Of a trial: the last that was told."""
    first: int = 0
    last: int = 0
    """Milliseconds since the epoch of the first and the last line."""


def read_told(folder: Path, position: int, began: int) -> Iterator[tuple[dict[int | None, Told], int]]:
    """Yield what an attempt's file says after `position`, piece by piece, each with the position behind it.

    By trial; None is the attempt itself. `began` (ms) is the time of lines that tell none. A last line without its end is left for later.
    """
    stream = open_told(folder)
    if stream is None:
        return
    with stream:
        while position < MOST_BYTES:
            stream.seek(position)
            data = stream.read(_PIECE)
            whole = data[: data.rfind(b"\n") + 1]
            if not whole and len(data) == _PIECE:
                whole = data  # part of a line that is too long: it is no JSON, and neither is its rest
            if not whole:
                return
            position += len(whole)
            yield _parsed(whole, began), position


def _parsed(data: bytes, began: int) -> dict[int | None, Told]:
    found: dict[int | None, Told] = {}
    for raw in data.splitlines():
        try:
            line = json.loads(raw)  # NaN too: of a loss it says much
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict):
            _take(line, found, began)
    return found


def _take(line: Mapping[str, Any], found: dict[int | None, Told], began: int) -> None:
    trial = line.get("trial")
    if trial is not None and (isinstance(trial, bool) or not isinstance(trial, int) or trial < 0):
        return
    told = found.setdefault(trial, Told())
    moment = _integer(line.get("time"), began)
    told.first, told.last = told.first or moment, moment
    for name, value in _items(line.get("params")):
        told.params.setdefault(name, as_param(value))
    for name, value in _items(line.get("tags")):
        if not name.startswith(("mlflow.", "intermodal.")):  # those are not a step's to set
            told.tags[name] = _text(value)[:_LONGEST_TAG]
    for name, value in _items(line.get("metrics")):
        if (point := as_point(name, value, moment, _integer(line.get("step"), 0))) is not None:
            told.points.append(point)
    told.study = str(line.get("study") or told.study)[:_LONGEST_NAME]
    told.state = str(line.get("state") or told.state)


def _items(given: Any) -> Iterator[tuple[str, Any]]:
    for name, value in given.items() if isinstance(given, dict) else ():
        if cleaned := as_name(name):
            yield cleaned, value


def as_name(name: str) -> str:
    """Return a name that MLflow takes for a parameter or metric: other characters become `_`."""
    return _NAME.sub("_", name)[:_LONGEST_NAME].strip("/. ")


def as_param(value: Any) -> str:
    return _text(value)[:_LONGEST_VALUE]


def as_values(params: Mapping[str, str]) -> dict[str, Any]:
    """Return what parameters were before `as_param`, as far as their text says."""
    found: dict[str, Any] = {}
    for name, text in params.items():
        try:
            found[name] = json.loads(text)
        except (ValueError, RecursionError):
            found[name] = text
    return found


def as_point(name: str, value: Any, moment: int, step: int) -> dict[str, Any] | None:
    """Return a metric's point as MLflow takes it, None if the value is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    shown: Any = (
        number if math.isfinite(number) else "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    )
    return {"key": name, "value": shown, "timestamp": moment, "step": step}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair is no text


def _integer(value: Any, otherwise: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value if good else otherwise
