"""Placeholders: every form, once, and never inside what a value holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intermodal.engine.placeholders import Context, View, resolve, resolve_arguments, resolve_value
from intermodal.engine.values import text
from intermodal.errors import BadInput

VIEW = View("data", "/in/data", "/in/data", "system.Dataset", "0.0.1", {"rows": 3, "who": "me"})
OUT = View("model", "/out/model", "/out/model", "system.Model", "0.0.1")
CONTEXT = Context(
    parameters={"s": "text", "n": 5, "f": 0.5, "b": True, "l": [1, "a"], "d": {"z": 1, "a": None}},
    channels={"pipelinechannel--c": "channel"},
    inputs={"data": [VIEW], "many": [VIEW, VIEW]},
    outputs={"model": OUT},
    parameter_files={"o": "/out/o"},
    output_file="/out/executor_output.json",
    job={"pipeline_job_name": "job", "pipeline_task_name": "task"},
)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{$.inputs.parameters['s']}}", "text"),
        ("{{$.inputs.parameters[''s'']}}", "text"),
        ("a{{$.inputs.parameters['n']}}b{{$.inputs.parameters['f']}}", "a5b0.5"),
        ("{{$.inputs.parameters['b']}}", "true"),
        ("{{$.inputs.parameters['l']}}", '[1,"a"]'),
        ("{{$.inputs.parameters['d']}}", '{"a":null,"z":1}'),
        ("{{$.inputs.parameters['absent']}}", ""),
        ("{{$.inputs.parameters['pipelinechannel--c']}}", "channel"),
        ("{{$.inputs.artifacts['data'].path}}", "/in/data"),
        ("{{$.inputs.artifacts['data'].uri}}", "/in/data"),
        ("{{$.inputs.artifacts['data'].metadata['rows']}}", "3"),
        ("{{$.inputs.artifacts['data'].metadata}}", '{"rows":3,"who":"me"}'),
        ("{{$.outputs.artifacts['model'].path}}", "/out/model"),
        ("{{$.outputs.parameters['o'].output_file}}", "/out/o"),
        ("{{$.outputs.output_file}}", "/out/executor_output.json"),
        ("{{$.outputMetadataUri}}", "/out/executor_output.json"),
        ("{{$.pipeline_job_name}}/{{$.pipeline_task_name}}", "job/task"),
        ("{{$.foo.bar}}", "{{$.foo.bar}}"),
        ("${HOME} $(x) {{x}}", "${HOME} $(x) {{x}}"),
    ],
)
def test_every_form(template: str, expected: str):
    assert resolve(template, CONTEXT) == expected


def test_a_list_of_artifacts_and_the_executor_input_are_json():
    items = json.loads(resolve("{{$.inputs.artifacts['many']}}", CONTEXT))
    assert [item["uri"] for item in items] == ["/in/data", "/in/data"]
    whole = json.loads(resolve("{{$}}", CONTEXT))
    assert whole["inputs"]["parameterValues"]["n"] == 5
    assert "pipelinechannel--c" not in whole["inputs"]["parameterValues"]
    assert whole["inputs"]["artifacts"]["many"]["artifacts"][1]["type"]["schemaTitle"] == "system.Dataset"
    assert whole["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"] == "/out/model"
    assert whole["outputs"]["outputFile"] == "/out/executor_output.json"


def test_one_placeholder_alone_keeps_its_type():
    assert resolve_value("{{$.inputs.parameters['l']}}", CONTEXT) == [1, "a"]
    assert resolve_value("x{{$.inputs.parameters['n']}}", CONTEXT) == "x5"


def test_an_output_that_is_not_there_is_named():
    with pytest.raises(BadInput, match="nothing"):
        resolve("{{$.outputs.artifacts['nothing'].path}}", CONTEXT)


def present(name: str, then: Any, otherwise: Any = None) -> str:
    choice = {"InputName": name, "Then": then, **({"Else": otherwise} if otherwise is not None else {})}
    return json.dumps({"IfPresent": choice})


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (present("s", "yes"), ("yes",)),
        (present("absent", "yes"), ()),
        (present("absent", "yes", "no"), ("no",)),
        (present("absent", ["a", "b"], ["c", "d"]), ("c", "d")),
        (present("data", ["--data", "{{$.inputs.artifacts['data'].path}}"]), ("--data", "/in/data")),
        (json.dumps({"Concat": ["a", "{{$.inputs.parameters['n']}}", "b"]}), ("a5b",)),
        (json.dumps({"Concat": ["a", json.loads(present("absent", "x")), "b"]}), ("ab",)),
        (present("s", {"Concat": ["p", "{{$.inputs.parameters['s']}}"]}), ("ptext",)),
        ('{"Other": 1}', ('{"Other": 1}',)),
        ('{"Concat": ["a"], "x": 1}', ('{"Concat": ["a"], "x": 1}',)),
    ],
)
def test_ifpresent_and_concat(argument: str, expected: tuple[str, ...]):
    assert resolve_arguments([argument], CONTEXT) == expected


@given(st.text())
def test_what_a_value_holds_is_never_looked_at_again(value: str):
    context = Context(parameters={"x": value})
    assert resolve_arguments(["{{$.inputs.parameters['x']}}", "a{{$.inputs.parameters['x']}}"], context) == (
        value,
        f"a{value}",
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5.0, "5"), (1e-5, "0.00001"), (1.5e-7, "0.00000015"), (1e22, "10000000000000000000000"), (0.1, "0.1"), (-2, "-2"),
     (True, "true"), (None, ""), ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'), ("é", "é")],
)  # fmt: skip
def test_text_of_values_is_what_the_launcher_prints(value: Any, expected: str):
    assert text(value) == expected
