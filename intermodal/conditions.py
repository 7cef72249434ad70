"""The trigger-condition language: what the KFP compiler emits, parsed and evaluated; never `eval`.

The language is a small part of CEL over `inputs.parameter_values`, with CEL's types: numbers compare with numbers, text with
text, booleans for (in)equality, nothing else with anything. `&&`, `||`, `!`, parentheses, the six comparisons, and the
conversions `int`, `double`, `string`, `bool`. Source: `compiler/pipeline_spec_builder.py` of the SDK, `expression.go` of the backend.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from intermodal.errors import BadInput, Unsupported

_REFERENCE = re.compile(
    r"""inputs\.(?:parameter_values|parameters)\[\s*(?:'[^']*'|"[^"]*")\s*\](?:\.(?:string_value|int_value|double_value|bool_value))?"""
)
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<reference>{_REFERENCE.pattern})
    | (?P<text>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
    | (?P<number>-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)
    | (?P<operator>==|!=|<=|>=|<|>|&&|\|\||!|\(|\))
    | (?P<word>[A-Za-z_]\w*)
    )""",
    re.VERBOSE,
)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def evaluate(condition: str, parameters: Mapping[str, Any], place: str) -> bool:
    """Return whether `condition` holds for `parameters`.

    Raises BadInput naming `place` if it cannot be parsed, refers to a parameter that has no value, compares values of
    different types, or is not a yes or no; Unsupported for CEL beyond this language.
    """
    return _Evaluation(condition, parameters, place).run()


def parameter_names(condition: str) -> list[str]:
    """Return the input parameters that a condition refers to, each once, in the order of the text."""
    return list(dict.fromkeys(_name(found) for found in _REFERENCE.findall(condition)))


def readable(condition: str) -> str:
    """Return the condition as a person would write it: names alone, without the words that lead to them."""
    return _REFERENCE.sub(lambda found: plain_name(_name(found.group())), condition)


def plain_name(parameter: str) -> str:
    """Return a parameter's name without the prefix that the compiler gives to values that come from elsewhere."""
    return parameter.removeprefix("pipelinechannel--")


def _name(reference: str) -> str:
    return re.split(r"['\"]", reference)[1]


def _tokens(condition: str, place: str) -> list[_Token]:
    tokens, position = [], 0
    text = condition.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise BadInput(f"{place}: condition {condition!r} cannot be read at {text[position : position + 20]!r}")
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match.group(kind)))
        position = match.end()
    return tokens


class _Evaluation:
    """A recursive-descent parser that evaluates as it goes. Both sides of `&&` and `||` are always evaluated."""

    def __init__(self, condition: str, parameters: Mapping[str, Any], place: str) -> None:
        self._condition = condition
        self._parameters = parameters
        self._place = place
        self._tokens = _tokens(condition, place)
        self._next = 0

    def run(self) -> bool:
        result = self._either()
        if self._next != len(self._tokens):
            raise self._bad(f"has something left at {self._tokens[self._next].text!r}")
        return self._boolean(result)

    def _bad(self, problem: str) -> BadInput:
        return BadInput(f"{self._place}: condition {self._condition!r} {problem}")

    def _peek(self) -> str:
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def _take(self) -> _Token:
        if self._next >= len(self._tokens):
            raise self._bad("ends too early")
        self._next += 1
        return self._tokens[self._next - 1]

    def _boolean(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._bad(f"gives {value!r}, which is neither true nor false")
        return value

    def _either(self) -> Any:
        value = self._both()
        while self._peek() == "||":
            self._take()
            other = self._both()
            value = self._boolean(value) | self._boolean(other)
        return value

    def _both(self) -> Any:
        value = self._comparison()
        while self._peek() == "&&":
            self._take()
            other = self._comparison()
            value = self._boolean(value) & self._boolean(other)
        return value

    def _comparison(self) -> Any:
        left = self._unary()
        if self._peek() not in _COMPARE:
            return left
        symbol = self._take().text
        right = self._unary()
        return self._compare(left, symbol, right)

    def _compare(self, left: Any, symbol: str, right: Any) -> bool:
        kinds = (_kind(left), _kind(right))
        if kinds[0] != kinds[1] or (kinds[0] not in ("number", "text") and symbol not in ("==", "!=")):
            raise self._bad(f"compares {left!r} with {right!r}: values of these types have no {symbol}")
        return _COMPARE[symbol](left, right)

    def _unary(self) -> Any:
        if self._peek() == "!":
            self._take()
            return not self._boolean(self._unary())
        return self._operand()

    def _operand(self) -> Any:
        token = self._take()
        if token.text == "(":
            value = self._either()
            self._close()
            return value
        if token.kind == "reference":
            return self._reference(token.text)
        if token.kind == "text":
            return _unquote(token.text)
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        if token.kind == "word":
            return self._word(token.text)
        raise self._bad(f"has {token.text!r} where a value is expected")

    def _word(self, word: str) -> Any:
        if word in ("true", "false"):
            return word == "true"
        if word not in ("int", "double", "string", "bool") or self._peek() != "(":
            raise Unsupported(f"{self._place}: condition {self._condition!r} uses {word!r}, which is not supported")
        self._take()
        value = self._either()
        self._close()
        try:
            return _convert(word, value)
        except (ValueError, TypeError) as error:
            raise self._bad(f"cannot make {word} of {value!r}") from error

    def _close(self) -> None:
        if self._take().text != ")":
            raise self._bad("misses a closing parenthesis")

    def _reference(self, token: str) -> Any:
        name = _name(token)
        if self._parameters.get(name) is None:
            raise self._bad(f"refers to {name!r}, which has no value")
        return self._parameters[name]


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _unquote(token: str) -> str:
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match.group(1), match.group(1)), token[1:-1])


def _convert(kind: str, value: Any) -> Any:
    if kind == "int":
        return int(value)
    if kind == "double":
        return float(value)
    if kind == "bool":
        if isinstance(value, bool):
            return value
        if value in ("true", "false"):
            return value == "true"
        raise ValueError(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
