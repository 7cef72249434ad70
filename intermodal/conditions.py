"""The trigger-condition language: what the KFP compiler emits, parsed and evaluated; never `eval`.

The language is a small part of CEL over `inputs.parameter_values`, with CEL's types: `&&`, `||`, `!`, parentheses, the six comparisons, and
the conversions `int`, `double`, `string`, `bool`. As in CEL, values of different types are never equal and have no order, and an error on
one side of `&&` or `||` does not count if the other side decides. Source: `compiler/pipeline_spec_builder.py` of the SDK,
`expression/expression.go` of the backend (cel-go), https://github.com/google/cel-spec/blob/master/doc/langdef.md
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
    | (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<operator>==|!=|<=|>=|<|>|&&|\|\||!|\(|\))
    | (?P<word>[A-Za-z_]\w*)
    )""",
    re.VERBOSE,
)
_MORE_OF_CEL = re.compile(r"\s*[-+*/%?:.,\[\]{}]")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONVERSIONS: Mapping[str, str] = {"int": "number", "double": "number", "string": "text", "bool": "boolean"}
"""Function and the kind of its result."""
TRUTHS: Mapping[str, bool] = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
"""What the KFP backend reads as a truth value (`strconv.ParseBool` of Go)."""
_ESCAPES: Mapping[str, str] = {
    "n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v",
    **{sign: sign for sign in "\\'\"`?"},
}  # fmt: skip

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class _Expression:
    """A parsed expression. `kind` is text, number or boolean, or empty where only the value will tell."""

    kind: str
    value: Callable[[Parameters], Any]
    """Raises _NoValue."""


class _NoValue(Exception):
    """The expression has no value for these parameters; the text says why."""


def check(condition: str, place: str) -> None:
    """Raise BadInput or Unsupported naming `place` if `condition` is none whatever the values are."""
    _parse(condition, place)


def evaluate(condition: str, parameters: Parameters, place: str) -> bool:
    """Return whether `condition` holds for `parameters`.

    Raises BadInput naming `place` if it cannot be parsed, refers to a parameter that has no value, orders values of
    different types, or is not a yes or no; Unsupported for CEL beyond this language.
    """
    try:
        return _boolean(_parse(condition, place).value(parameters))
    except _NoValue as error:
        raise BadInput(f"{place}: condition {condition!r} {error}") from error
    except RecursionError as error:
        raise _too_deep(condition, place) from error


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


def _parse(condition: str, place: str) -> _Expression:
    try:
        return _Parser(condition, place).run()
    except RecursionError as error:
        raise _too_deep(condition, place) from error


def _too_deep(condition: str, place: str) -> BadInput:
    return BadInput(f"{place}: condition {condition[:40]!r}… is nested too deeply")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


class _Parser:
    """Recursive descent, from what binds least to what binds most."""

    def __init__(self, condition: str, place: str) -> None:
        self._condition = condition
        self._place = place
        self._tokens = self._read()
        self._next = 0

    def _read(self) -> list[_Token]:
        tokens, position = [], 0
        text = self._condition.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                rest = text[position : position + 20].strip()
                if _MORE_OF_CEL.match(text, position):
                    raise self._unsupported(rest)
                raise self._bad(f"cannot be read at {rest!r}")
            kind = str(match.lastgroup)
            tokens.append(_Token(kind, match.group(kind)))
            position = match.end()
        return tokens

    def run(self) -> _Expression:
        result = self._either()
        if self._next != len(self._tokens):
            raise self._bad(f"has something left at {self._tokens[self._next].text!r}")
        return result

    def _bad(self, problem: str) -> BadInput:
        return BadInput(f"{self._place}: condition {self._condition!r} {problem}")

    def _unsupported(self, what: str) -> Unsupported:
        return Unsupported(
            f"{self._place}: condition {self._condition!r} uses {what!r}, which is not supported",
            hint="conditions compare input parameters, text, numbers and booleans, joined by && || !",
        )

    def _peek(self) -> str:
        return self._tokens[self._next].text if self._next < len(self._tokens) else ""

    def _take(self) -> _Token:
        if self._next >= len(self._tokens):
            raise self._bad("ends too early")
        self._next += 1
        return self._tokens[self._next - 1]

    def _either(self) -> _Expression:
        found = self._both()
        while self._peek() == "||":
            self._take()
            found = _joined(found, self._both(), decisive=True)
        return found

    def _both(self) -> _Expression:
        found = self._comparison()
        while self._peek() == "&&":
            self._take()
            found = _joined(found, self._comparison(), decisive=False)
        return found

    def _comparison(self) -> _Expression:
        left = self._unary()
        if self._peek() not in _COMPARE:
            return left
        symbol = self._take().text
        right = self._unary()
        if left.kind and right.kind and left.kind != right.kind:
            raise self._bad(f"compares {left.kind} with {right.kind}")
        return _Expression("boolean", lambda given: _compared(left.value(given), symbol, right.value(given)))

    def _unary(self) -> _Expression:
        if self._peek() != "!":
            return self._operand()
        self._take()
        inner = self._unary()
        return _Expression("boolean", lambda given: not _boolean(inner.value(given)))

    def _operand(self) -> _Expression:
        token = self._take()
        if token.text == "(":
            return self._closed(self._either())
        if token.kind == "reference":
            name = _name(token.text)
            return _Expression("", lambda given: _parameter(name, given))
        if token.kind == "text":
            return _constant("text", self._unquoted(token.text))
        if token.kind == "number":
            return _constant("number", float(token.text) if re.search(r"[.eE]", token.text) else int(token.text))
        if token.kind == "word":
            return self._word(token.text)
        raise self._bad(f"has {token.text!r} where a value is expected")

    def _word(self, word: str) -> _Expression:
        if word in ("true", "false"):
            return _constant("boolean", word == "true")
        if word not in _CONVERSIONS or self._peek() != "(":
            raise self._unsupported(word)
        self._take()
        inner = self._closed(self._either())
        return _Expression(_CONVERSIONS[word], lambda given: _converted(word, inner.value(given)))

    def _closed(self, inner: _Expression) -> _Expression:
        if self._take().text != ")":
            raise self._bad("misses a closing parenthesis")
        return inner

    def _unquoted(self, token: str) -> str:
        def meant(match: re.Match[str]) -> str:
            if match[1] not in _ESCAPES:
                raise self._bad(f"has the unknown escape {match[0]!r}; a backslash is written twice")
            return _ESCAPES[match[1]]

        return re.sub(r"\\(.)", meant, token[1:-1])


def _constant(kind: str, value: Any) -> _Expression:
    return _Expression(kind, lambda _: value)


def _joined(left: _Expression, right: _Expression, *, decisive: bool) -> _Expression:
    """Return `left && right` (`decisive` is False) or `left || right` (True): the decisive value wins over an error."""

    def value(given: Parameters) -> bool:
        problem: _NoValue | None = None
        for side in (left, right):
            try:
                if _boolean(side.value(given)) is decisive:
                    return decisive
            except _NoValue as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return not decisive

    return _Expression("boolean", value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _NoValue(f"gives {value!r}, which is neither true nor false")
    return value


def _parameter(name: str, given: Parameters) -> Any:
    if given.get(name) is None:
        raise _NoValue(f"refers to {name!r}, which has no value")
    return given[name]


def _compared(left: Any, symbol: str, right: Any) -> bool:
    if _kind(left) == _kind(right):
        return _COMPARE[symbol](left, right)
    if symbol in ("==", "!="):
        return symbol == "!="
    raise _NoValue(f"compares {left!r} with {right!r}: values of these types have no order")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _converted(name: str, value: Any) -> Any:
    """Convert as cel-go does: truth is no number, and the text of a number is digits and nothing else."""
    kind = _kind(value)
    if name == "string" and kind in ("boolean", "number", "text"):
        return str(value).lower() if kind == "boolean" else str(value)
    if name == "bool" and kind == "boolean":
        return value
    if name == "bool" and kind == "text" and value in TRUTHS:
        return TRUTHS[value]
    if name == "int" and (kind == "number" or (kind == "text" and re.fullmatch(r"[-+]?[0-9]+", value))):
        return int(value)
    if name == "double" and kind == "number":
        return float(value)
    if (
        name == "double"
        and kind == "text"
        and re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", value)
    ):
        return float(value)
    raise _NoValue(f"cannot make {name} of {value!r}")
