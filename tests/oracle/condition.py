"""Trigger conditions: CEL over `inputs.parameter_values`, worked out by splitting the text at its weakest operator.

An error is a value here, as in CEL: `false && error` is false, `true && error` is the error.
"""

from __future__ import annotations

import operator
import re
from typing import Any

from tests.oracle.values import Wrong, as_text

_WORD = re.compile(
    r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|inputs\.parameter_values|[A-Za-z_]\w*|-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"""
    r"""|&&|\|\||==|!=|<=|>=|[<>!()\[\]])"""
)
_COMPARISONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(condition: str, parameters: dict[str, Any]) -> bool:
    """Return whether the condition holds. Raises Wrong if it has no answer."""
    words, rest = [], condition.rstrip()
    while rest:
        word = _WORD.match(rest)
        if word is None:
            raise Wrong(f"condition {condition!r}: cannot be read at {rest!r}")
        words.append(word[1])
        rest = rest[word.end() :]
    answer = _value(words, parameters)
    if type(answer) is not bool:
        raise Wrong(f"condition {condition!r}: {answer!r} is neither true nor false")
    return answer


def _split(words: list[str], marks: set[str]) -> tuple[list[list[str]], list[str]]:
    """Return the parts between the marks that stand outside of any parentheses, and these marks."""
    parts: list[list[str]] = [[]]
    found = []
    depth = 0
    for word in words:
        depth += (word in "([") - (word in ")]")
        if depth == 0 and word in marks:
            parts.append([])
            found.append(word)
        else:
            parts[-1].append(word)
    return parts, found


def _value(words: list[str], parameters: dict[str, Any]) -> Any:
    """Return the value of an expression: text, number, bool, or a Wrong."""
    for mark, decides in (("||", True), ("&&", False)):
        parts, found = _split(words, {mark})
        if found:
            values = [_value(part, parameters) for part in parts]
            if any(value is decides for value in values):
                return decides
            odd = [value for value in values if type(value) is not bool]
            return (odd[0] if isinstance(odd[0], Wrong) else Wrong(f"{odd[0]!r} in a {mark}")) if odd else not decides
    parts, found = _split(words, set(_COMPARISONS))
    if len(found) > 1:
        raise Wrong("comparisons in a row")
    if found:
        return _compared(_value(parts[0], parameters), found[0], _value(parts[1], parameters))
    if not words:
        raise Wrong("a value is missing")
    if words[0] == "!":
        value = _value(words[1:], parameters)
        return not value if type(value) is bool else value if isinstance(value, Wrong) else Wrong(f"! of {value!r}")
    return _operand(words, parameters)


def _compared(left: Any, mark: str, right: Any) -> Any:
    for side in (left, right):
        if isinstance(side, Wrong):
            return side
    if _kind(left) != _kind(right):
        return mark == "!=" if mark in ("==", "!=") else Wrong(f"{left!r} {mark} {right!r}")
    return _COMPARISONS[mark](left, right)


def _kind(value: Any) -> str:
    return {bool: "bool", int: "number", float: "number", str: "text"}.get(type(value), str(type(value)))


def _operand(words: list[str], parameters: dict[str, Any]) -> Any:
    first, last = words[0], words[-1]
    if first == "(" and last == ")":
        return _value(words[1:-1], parameters)
    if first == "inputs.parameter_values" and len(words) == 4 and words[1] == "[" and last == "]":
        name = words[2][1:-1]
        return Wrong(f"{name} has no value") if parameters.get(name) is None else parameters[name]
    if first in ("int", "double", "bool", "string") and words[1:2] == ["("] and last == ")":
        return _converted(first, _value(words[2:-1], parameters))
    if len(words) > 1:
        raise Wrong(f"{words[1]!r} is not expected")
    if first in ("true", "false"):
        return first == "true"
    if first[0] in "'\"":
        return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t", "r": "\r"}.get(found[1], found[1]), first[1:-1])
    if first[0] in "-0123456789":
        return float(first) if set(first) & set(".eE") else int(first)
    raise Wrong(f"{first!r} is not known")


def _converted(name: str, value: Any) -> Any:
    """Convert as cel-go does: numbers and texts of numbers, nothing by truth."""
    if isinstance(value, Wrong):
        return value
    kind = _kind(value)
    if name == "string" and kind in ("bool", "number", "text"):
        return as_text(value)
    if name == "bool" and kind == "bool":
        return value
    if name == "bool" and value in ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"):
        return value[0] in "1tT"
    if name == "int" and (kind == "number" or (kind == "text" and re.fullmatch("[-+]?[0-9]+", value))):
        return int(value)
    if name == "double" and kind == "number":
        return float(value)
    if name == "double" and kind == "text" and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value, re.ASCII):
        return float(value)
    return Wrong(f"no {name} of {value!r}")
