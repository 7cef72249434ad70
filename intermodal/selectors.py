"""Parameter expression selectors: which part of a value a task's input takes.

All that the SDK emits is `parseJson(string_value)["key"]`; indices and further steps are understood too.
Source: `expression/expression.go` of the KFP backend.
"""

from __future__ import annotations

import json
import re
from typing import Any

from intermodal.bounded import parse_json
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.document import plain

_START = "parseJson(string_value)"
_STEP = re.compile(r"\[(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<index>\d+))\]")


def check(selector: str, place: str) -> None:
    """Raise Unsupported naming `place` if `selector` is not of the form that is understood."""
    if _steps(selector) is None:
        raise Unsupported(
            f"{place}: the parameter expression {selector!r} is not supported",
            hint='write parseJson(string_value)["key"]',
        )


def select(value: Any, selector: str) -> Any:
    """Return the part of `value` that a checked selector names. Raises BadInput where a step leads nowhere."""
    if isinstance(value, str):
        try:
            value = plain(parse_json(value))
        except ValueError as error:
            raise BadInput(f"parameter expression {selector!r}: {_shown(value)} is not JSON") from error
    for step in _steps(selector) or []:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as error:
            raise BadInput(f"parameter expression {selector!r}: {_shown(value)} has no {step!r}") from error
    return value


def _steps(selector: str) -> list[str | int] | None:
    rest = selector.strip()
    if not rest.startswith(_START):
        return None
    rest = rest[len(_START) :]
    steps: list[str | int] = []
    while rest:
        match = _STEP.match(rest)
        if not match:
            return None
        text = match["double"] if match["double"] is not None else match["single"]
        steps.append(int(match["index"]) if match["index"] is not None else text)
        rest = rest[match.end() :]
    return steps


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else shown[:59] + "…"
