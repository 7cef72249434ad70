"""The condition language: what holds, what does not, what is an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.conditions import evaluate
from intermodal.errors import BadInput, Unsupported


def ref(name: str = "x") -> str:
    return f"inputs.parameter_values['{name}']"


def holds(condition: str, **values: Any) -> bool:
    return evaluate(condition, values, "task")


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        (f"{ref()} == 'a'", "a", True),
        (f"{ref()} != 'a'", "a", False),
        (f"'a' == {ref()}", "b", False),
        (f"int({ref()}) > 3", 4, True),
        (f"int({ref()}) >= 4", "4", True),
        (f"{ref()} < 2.5", 2, True),
        (f"double({ref()}) <= -1e-3", -0.5, True),
        (f"{ref()} == 5", 5.0, True),
        (f"{ref()} == true", True, True),
        (f"bool({ref()}) == false", "false", True),
        (f"string({ref()}) == '7'", 7, True),
        (f"!({ref()} == 'a')", "b", True),
        (f"{ref()} == 'a' && 1 < 2", "a", True),
        (f"{ref()} == 'b' || 1 < 2", "a", True),
        (f"!({ref()} == 'a') && 1 < 2", "a", False),
        (f"({ref()} == 'b' || 1 < 2) && 2 < 1", "a", False),
        (r"'it\'s' == " + ref(), "it's", True),
        (f"{ref()} == 'a < b'", "a < b", True),
        ('inputs.parameter_values["x"] == "q"', "q", True),
    ],
)
def test_what_holds(condition: str, value: Any, expected: bool):
    assert holds(condition, x=value) is expected


@pytest.mark.parametrize(
    ("condition", "value", "word"),
    [
        (f"{ref()} == 5", "5", "compares"),
        (f"{ref()} < true", False, "compares"),
        (f"{ref()} == 'a'", True, "compares"),
        (f"{ref()} == ", "a", "ends too early"),
        (f"{ref()} == 'a' 'b'", "a", "something left"),
        (f"{ref()}", "a", "neither true nor false"),
        (f"{ref('y')} == 'a'", "a", "'y'"),
        ("1 + 1 == 2", "", "cannot be read"),
        (f"({ref()} == 'a'", "a", ""),
        (f"int({ref()}) == 1", "one", "cannot make int"),
        (f"{ref()} == 'it's'", "a", ""),
        ("", "a", "ends too early"),
    ],
)
def test_what_is_an_error(condition: str, value: Any, word: str):
    with pytest.raises(BadInput) as error:
        holds(condition, x=value)
    assert word in error.value.message and error.value.message.startswith("task: ")


def test_more_of_cel_is_refused_by_name():
    with pytest.raises(Unsupported, match="size"):
        holds(f"size({ref()}) > 1", x="ab")


@given(st.text())
def test_a_value_is_compared_and_never_read_as_part_of_the_condition(value: str):
    assert holds(f"{ref()} == 'secret'", x=value) is (value == "secret")
