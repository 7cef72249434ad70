"""Parameter values: types, text form, and decoding of what a step wrote."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from intermodal.bounded import parse_json
from intermodal.conditions import TRUTHS
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.errors import BadInput
from intermodal.spec.document import canonical_json, plain
from intermodal.spec.types import InputParameter, ParameterType, Value

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
MAX_PARAMETER_BYTES = 1024 * 1024
"""A parameter is for values that fit in a command line or a record; larger things are artifacts."""


def text(value: Value) -> str:
    """Return `value` as it appears in a command line: what the KFP launcher prints.

    Strings raw, numbers without exponent or needless fraction, `true`/`false`, lists and structs as compact JSON, null empty.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float_text(value)
    return canonical_json(value)  # keys sorted: a struct has no order, and equal values must give equal commands


def _float_text(value: float) -> str:
    """Format like Go's FormatFloat(value, 'f', -1): the shortest digits that read back, never an exponent."""
    if value.is_integer():
        return str(int(value))
    digits = repr(value)
    if "e" not in digits:
        return digits
    mantissa, exponent = digits.split("e")
    places = max(0, len(mantissa.partition(".")[2]) - int(exponent))
    return f"{value:.{places}f}"


def _is_json(value: Value) -> bool:
    """Whether JSON can hold `value`: no NaN, no infinity, no date that YAML made, at any depth."""
    try:
        canonical_json(value)
    except (ValueError, TypeError):
        return False
    return True


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def coerce(value: Value, kind: ParameterType, place: str) -> Value:
    """Return `value` as type `kind`. Raises BadInput naming `place` where the KFP backend would refuse it.

    STRING takes any value (as its text); numbers, booleans, lists and structs must already be what they claim.
    """
    value = plain(value)
    if kind is ParameterType.STRING:
        return text(value)
    if _fits(value, kind):
        return value
    raise BadInput(f"{place}: expected {kind.value}, got {type(value).__name__} {shorten(value)}")


def _fits(value: Value, kind: ParameterType) -> bool:
    if kind is ParameterType.INTEGER:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is ParameterType.DOUBLE:
        return _is_number(value) and math.isfinite(value)
    if kind is ParameterType.BOOLEAN:
        return isinstance(value, bool)
    if kind is ParameterType.LIST:
        return isinstance(value, list) and _is_json(value)
    if kind is ParameterType.STRUCT:
        return isinstance(value, dict) and _is_json(value)
    return isinstance(value, dict)  # TASK_FINAL_STATUS, TASK_CONFIG


def parse_argument(written: str, declared: InputParameter, place: str) -> Value:
    """Return the value of `--arg name=written` by the declared type. Raises BadInput naming `place`."""
    kind = declared.type
    if kind is ParameterType.STRING:
        return written
    lowered = written.strip().lower()
    try:
        if kind is ParameterType.INTEGER:
            return int(written)
        if kind is ParameterType.DOUBLE:
            return coerce(float(written), kind, place)
        if kind is ParameterType.BOOLEAN and lowered in ("true", "false"):
            return lowered == "true"
        if kind in (ParameterType.LIST, ParameterType.STRUCT):
            return coerce(parse_json(written), kind, place)
    except ValueError as error:
        raise BadInput(
            f"{place}: {written!r} is not a {kind.value}", hint="lists and structs are given as JSON"
        ) from error
    raise BadInput(f"{place}: {written!r} is not a {kind.value}")


def decode_output(raw: bytes, kind: ParameterType, place: str) -> Value:
    """Return the value of a parameter file by the declared type.

    Raises AttemptFailed(OUTPUT_INVALID) naming `place`. Source: `TextToPbValue` of the KFP backend.
    """
    if len(raw) > MAX_PARAMETER_BYTES:
        raise invalid(
            f"{place}: {len(raw)} bytes are too many for a parameter (at most {MAX_PARAMETER_BYTES}); write an artifact"
        )
    try:
        written = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(f"{place}: is not UTF-8 text") from error
    try:
        return _decode(written, kind)
    except ValueError as error:
        raise invalid(f"{place}: {shorten(written)} is not a {kind.value}") from error


def _decode(written: str, kind: ParameterType) -> Value:
    if kind is ParameterType.STRING:
        return written
    stripped = written.strip()
    if kind is ParameterType.INTEGER and re.fullmatch(r"[-+]?[0-9]+", stripped):
        return int(stripped)
    if kind is ParameterType.DOUBLE and _NUMBER.fullmatch(stripped) and math.isfinite(float(stripped)):
        return plain(float(stripped))
    if kind is ParameterType.BOOLEAN and stripped in TRUTHS:
        return TRUTHS[stripped]
    if kind not in (ParameterType.LIST, ParameterType.STRUCT):
        raise ValueError(stripped)
    value = plain(parse_json(stripped))
    if not isinstance(value, list if kind is ParameterType.LIST else dict):
        raise ValueError(stripped)
    return value


def check_output(value: Value, kind: ParameterType, place: str) -> Value:
    """Return a value of ExecutorOutput as type `kind`. Raises AttemptFailed(OUTPUT_INVALID)."""
    try:
        return coerce(value, kind, place)
    except BadInput as error:
        raise invalid(error.message) from error


def invalid(message: str) -> AttemptFailed:
    return AttemptFailed(Failure(FailureClass.OUTPUT_INVALID, message))


def shorten(value: Any, limit: int = 60) -> str:
    """Return a short form of `value` for an error message."""
    shown = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
