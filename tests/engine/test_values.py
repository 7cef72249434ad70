"""Types of parameters: what is taken, what is refused, and where."""

from __future__ import annotations

from typing import Any

import pytest

from intermodal.engine.failure import AttemptFailed, FailureClass
from intermodal.engine.values import MAX_PARAMETER_BYTES, coerce, decode_output, parse_argument
from intermodal.errors import BadInput
from intermodal.spec.types import InputParameter
from intermodal.spec.types import ParameterType as T


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("a", T.STRING, "a"), (5, T.STRING, "5"), ([1.0], T.STRING, "[1]"), (5.0, T.INTEGER, 5), (2.5, T.DOUBLE, 2.5), (2, T.DOUBLE, 2),
        (True, T.BOOLEAN, True), ([1.0, {"a": 2.0}], T.LIST, [1, {"a": 2}]), ({"a": None}, T.STRUCT, {"a": None}),
    ],
)  # fmt: skip
def test_what_is_taken(value: Any, kind: T, expected: Any):
    found = coerce(value, kind, "p")
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("5", T.INTEGER), (5.5, T.INTEGER), (True, T.INTEGER), (True, T.DOUBLE), (float("nan"), T.DOUBLE), (float("inf"), T.DOUBLE),
        ("true", T.BOOLEAN), (1, T.BOOLEAN), ("[]", T.LIST), ({}, T.LIST), ([], T.STRUCT),
        ([float("nan")], T.LIST), ({"a": float("inf")}, T.STRUCT),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(value: Any, kind: T):
    with pytest.raises(BadInput, match="place x"):
        coerce(value, kind, "place x")


@pytest.mark.parametrize(
    ("raw", "kind", "expected"),
    [
        (b" a\n", T.STRING, " a\n"), (b" 7\n", T.INTEGER, 7), (b"1e3", T.DOUBLE, 1000), (b"True\n", T.BOOLEAN, True),
        (b"[1, 2.5]", T.LIST, [1, 2.5]), (b'{"a": "\xc3\xa9"}', T.STRUCT, {"a": "\u00e9"}), (b"", T.STRING, ""),
        (b"1", T.BOOLEAN, True), (b"f", T.BOOLEAN, False), (b"-.5\n", T.DOUBLE, -0.5), (b"+3", T.INTEGER, 3),
    ],
)  # fmt: skip
def test_what_a_step_wrote(raw: bytes, kind: T, expected: Any):
    assert decode_output(raw, kind, "o") == expected


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"1.5", T.INTEGER), (b"", T.INTEGER), (b"nan", T.DOUBLE), (b"yes", T.BOOLEAN), (b"{}", T.LIST), (b"[]", T.STRUCT),
        (b"[NaN]", T.LIST), (b"1_000", T.INTEGER), (b"1_0.5", T.DOUBLE), (b"infinity", T.DOUBLE), ("\u0663".encode(), T.INTEGER),
        (b"tRue", T.BOOLEAN), (b"1e999", T.DOUBLE),
        (b"[1", T.LIST), (b"\xff", T.STRING), (b"x" * (MAX_PARAMETER_BYTES + 1), T.STRING),
    ],
)  # fmt: skip
def test_what_a_step_may_not_write(raw: bytes, kind: T):
    with pytest.raises(AttemptFailed) as error:
        decode_output(raw, kind, "output 'o'")
    assert error.value.failure.kind is FailureClass.OUTPUT_INVALID
    assert "output 'o'" in error.value.failure.message


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        ("5", T.INTEGER, 5),
        ("1e-3", T.DOUBLE, 0.001),
        ("TRUE", T.BOOLEAN, True),
        ("[1]", T.LIST, [1]),
        ("5", T.STRING, "5"),
    ],
)
def test_arguments_of_a_command_line(written: str, kind: T, expected: Any):
    assert parse_argument(written, InputParameter(kind), "argument a") == expected


@pytest.mark.parametrize(
    ("written", "kind"), [("x", T.INTEGER), ("maybe", T.BOOLEAN), ("{}", T.LIST), ("[", T.LIST), ("nan", T.DOUBLE)]
)
def test_wrong_arguments_are_named(written: str, kind: T):
    with pytest.raises(BadInput, match="argument a"):
        parse_argument(written, InputParameter(kind), "argument a")
