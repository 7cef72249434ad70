"""The condition language: what holds, what does not, what is an error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.conditions import check, evaluate
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
        (f"{ref()} == 5", "5", False),
        (f"{ref()} != 5", "5", True),
        (f"{ref()} == 'a'", True, False),
        (f"{ref()} < true", False, True),
        (f"int({ref()}) == -2", -2.9, True),
        (f"int({ref()}) == 12", "+12", True),
        (f"bool({ref()})", "t", True),
        (f"{ref()} == .5", 0.5, True),
        (f"!!({ref()} == 'a')", "a", True),
        (f"!bool({ref()}) == true", "false", True),
        (f"{ref('y')} == 1 && {ref()} == 'b'", "a", False),
        (f"{ref()} == 'a' || {ref('y')} == 1", "a", True),
        (f"{ref()} < 1 || {ref()} == 'a'", "a", True),
    ],
)
def test_what_holds(condition: str, value: Any, expected: bool):
    assert holds(condition, x=value) is expected


@pytest.mark.parametrize(
    ("condition", "value", "word"),
    [
        (f"{ref()} < 5", "5", "have no order"),
        (f"{ref()} >= 'a'", True, "have no order"),
        (f"int({ref()}) == 'a'", 1, "compares number with text"),
        (f"{ref('y')} == 1 && {ref()} == 'a'", "a", "'y'"),
        (f"{ref()} == 'b' || {ref('y')} == 1", "a", "'y'"),
        (f"int({ref()}) == 1", True, "cannot make int"),
        (f"int({ref()}) == 1", " 1", "cannot make int"),
        (f"int({ref()}) == 1000", "1_000", "cannot make int"),
        (f"double({ref()}) > 1", "inf", "cannot make double"),
        (f"bool({ref()})", "yes", "cannot make bool"),
        (r"'a\d' == " + ref(), "a", "unknown escape"),
        (f"{ref()} == 'two\nlines'", "a", "cannot be read"),
        (f"{ref()} == ", "a", "ends too early"),
        (f"{ref()} == 'a' 'b'", "a", "something left"),
        (f"{ref()}", "a", "neither true nor false"),
        (f"{ref('y')} == 'a'", "a", "'y'"),
        (f"{ref()} == @", "a", "cannot be read"),
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


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        (f"size({ref()}) > 1", "size"),
        ("1 + 1 == 2", r"\+ 1 == 2"),
        ("inputs.artifacts['m'].artifacts[0].metadata['f1'] > 0.5", "inputs"),
        (f"{ref()} in ['a']", "in"),
        (f"parseJson({ref()})['a'] == 1", "parseJson"),
    ],
)
def test_more_of_cel_is_refused_by_name(condition: str, word: str):
    with pytest.raises(Unsupported, match=word):
        check(condition, "task")


@given(st.text())
def test_a_value_is_compared_and_never_read_as_part_of_the_condition(value: str):
    assert holds(f"{ref()} == 'secret'", x=value) is (value == "secret")
