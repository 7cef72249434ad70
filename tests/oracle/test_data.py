"""How data passes: the engine and the oracle must agree, and both with what is written here by hand."""

import json
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pytest
from kfp import dsl

from intermodal.errors import BadInput
from tests.engine.steps import join, make, number, read, say, show_list
from tests.oracle.conftest import Agree


@dsl.container_component
def maybe(out: dsl.OutputPath(str), text: Optional[str] = None, count: int = 5, data: dsl.Input[dsl.Dataset] = None):  # noqa: UP045
    args = [
        out,
        dsl.IfPresentPlaceholder(input_name="text", then=["--text", text], else_=["--no-text"]),
        dsl.IfPresentPlaceholder(
            input_name="data", then=[dsl.ConcatPlaceholder(["--data=", data.path, "/file"])], else_="--no-data"
        ),
        dsl.IfPresentPlaceholder(input_name="text", then=dsl.ConcatPlaceholder(["<", text, ">"])),
        dsl.ConcatPlaceholder(["count=", count]),
    ]
    script = 'out="$1"; shift; for word in "$@"; do printf "%s;" "${word##*/}"; done > "$out"'
    return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=args)


def test_optional_inputs_defaults_and_nulls(agree: Agree):
    class Outputs(NamedTuple):
        nothing: str
        null: str
        given: str

    @dsl.pipeline(name="p")
    def pipeline(unset: Optional[str] = None, count: int = 1000000) -> Outputs:  # noqa: UP045
        made = make(text="x")
        return Outputs(
            maybe().outputs["out"],
            maybe(text=unset).outputs["out"],
            maybe(text="it's", count=count, data=made.outputs["data"]).outputs["out"],
        )

    assert agree(pipeline).outputs == {
        "nothing": "--no-text;--no-data;count=5;",
        "null": "--no-text;--no-data;count=5;",
        "given": "--text;it's;file;<it's>;count=1000000;",
    }


def test_defaults_of_nested_pipelines(agree: Agree):
    @dsl.pipeline(name="inner")
    def inner(text: str = "inner default", unset: Optional[str] = None) -> str:  # noqa: UP045
        return join(left=text, right=maybe(text=unset).outputs["out"]).outputs["out"]

    class Outputs(NamedTuple):
        left_out: str
        null: str
        given: str

    @dsl.pipeline(name="p")
    def pipeline(nothing: Optional[str] = None, something: str = "outer") -> Outputs:  # noqa: UP045
        return Outputs(
            inner().output, inner(text=nothing, unset=nothing).output, inner(text=something, unset=something).output
        )

    seen = agree(pipeline)
    assert seen.outputs["left_out"] == "inner default|--no-text;--no-data;count=5;"
    assert seen.outputs["null"] == seen.outputs["left_out"]
    assert seen.outputs["given"] == "outer|--text;outer;--no-data;<outer>;count=5;"


def test_values_keep_their_types_through_everything(agree: Agree):
    value = {
        "n": 5,
        "big": 2**53 - 1,
        "f": 0.1,
        "none": None,
        "deep": [1, [2.5, {"x": True, "y": "{{$}}"}]],
        "é": "'\"\\",
    }

    @dsl.container_component
    def same(value: dict, out: dsl.OutputPath(dict)):
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'printf %s "$1" > "$2"', "sh"], args=[value, out])

    @dsl.pipeline(name="inner")
    def inner(value: dict) -> dict:
        return same(value=value).outputs["out"]

    @dsl.pipeline(name="p")
    def pipeline(value: dict) -> dict:
        return inner(value=same(value=value).outputs["out"]).output

    seen = agree(pipeline, value=value)
    assert seen.outputs["Output"] == value
    assert all(type(item) is int for item in (seen.outputs["Output"]["n"], seen.outputs["Output"]["big"]))


def test_numbers_become_text_where_text_is_wanted(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline(n: int = 5, f: float = 1e-7, big: float = 1e21, b: bool = True) -> str:
        return say(text=f"{n} {f} {big} {b} {number(value=n).outputs['out']}").outputs["out"]

    assert agree(pipeline).outputs == {"Output": "5 0.0000001 1000000000000000000000 true 5"}


def test_what_a_constant_refers_to_is_filled_in_once_at_any_depth(agree: Agree):
    @dsl.container_component
    def same(value: dict, items: list, out: dsl.OutputPath(str)):
        script = 'printf "%s %s" "$1" "$2" > "$3"'
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=[value, items, out])

    @dsl.pipeline(name="p")
    def pipeline(n: int = 3, text: str = "{{$.inputs.parameters['pipelinechannel--n']}}") -> str:
        made = say(text="made")
        value = {"a": [made.outputs["out"], {"n": n}], "text": f"<{text}>"}
        return same(value=value, items=[n, "x", [made.outputs["out"]]]).outputs["out"]

    seen = agree(pipeline)
    reference = "{{$.inputs.parameters['pipelinechannel--n']}}"
    assert seen.given("same")["value"] == {"a": ["made", {"n": "3"}], "text": f"<{reference}>"}
    assert seen.given("same")["items"] == ["3", "x", ["made"]]


def test_artifact_arguments_and_nested_pipelines_with_artifacts_alone(agree: Agree, tmp_path: Path):
    @dsl.pipeline(name="inner")
    def inner(data: dsl.Input[dsl.Dataset]) -> dsl.Dataset:
        return make(text=read(data=data).outputs["out"]).outputs["data"]

    class Outputs(NamedTuple):
        text: str
        data: dsl.Dataset

    @dsl.pipeline(name="p")
    def pipeline(data: dsl.Input[dsl.Dataset]) -> Outputs:
        through = inner(data=inner(data=data).output)
        return Outputs(read(data=through.output).outputs["out"], through.output)

    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file").write_text("own data")
    seen = agree(pipeline, data=folder)
    assert seen.outputs == {"text": "own data"}
    assert list(seen.tasks[""]["outputs"]["artifacts"]["data"][0]["content"]) == ["file"]


def test_a_step_may_make_a_list_of_artifacts(agree: Agree):
    script = """
import json, os, sys
(given,) = json.loads(sys.argv[1])
os.makedirs(given["uri"])
made = []
for index, text in enumerate(["one", "two"]):
    path = f"{given['uri']}/{index}"
    os.mkdir(path)
    open(path + "/file", "w").write(text)
    made.append({"name": "many", "uri": path, "metadata": {"index": index}})
json.dump({"artifacts": {"many": {"artifacts": made}}}, open(sys.argv[2], "w"))
"""

    total = "import json, sys; open(sys.argv[2], 'w').write(str(sum(x['metadata']['index'] for x in json.loads(sys.argv[1]))))"
    many = {
        "many": {"artifactType": {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}, "isArtifactList": True}
    }
    number = {"parameters": {"out": {"parameterType": "NUMBER_INTEGER"}}}
    made = ["python3", "-c", script, "{{$.outputs.artifacts['many']}}", "{{$.outputs.output_file}}"]
    counted = ["python3", "-c", total, "{{$.inputs.artifacts['many']}}", "{{$.outputs.parameters['out'].output_file}}"]
    takes = {"many": {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "many"}}}
    result = {"out": {"valueFromParameter": {"producerSubtask": "count", "outputParameterKey": "out"}}}
    seen = agree(
        {
            "pipelineInfo": {"name": "lists"},
            "root": {
                "outputDefinitions": number,
                "dag": {
                    "tasks": {
                        "make": {"componentRef": {"name": "comp-make"}},
                        "count": {"componentRef": {"name": "comp-count"}, "inputs": {"artifacts": takes}},
                    },
                    "outputs": {"parameters": result},
                },
            },
            "components": {
                "comp-make": {"executorLabel": "make", "outputDefinitions": {"artifacts": many}},
                "comp-count": {
                    "executorLabel": "count",
                    "inputDefinitions": {"artifacts": many},
                    "outputDefinitions": number,
                },
            },
            "deploymentSpec": {
                "executors": {
                    "make": {"container": {"image": "shell", "command": made}},
                    "count": {"container": {"image": "shell", "command": counted}},
                }
            },
        }
    )
    assert seen.outputs == {"out": 1}
    artifacts = seen.tasks["make"]["outputs"]["artifacts"]["many"]
    assert [item["metadata"] for item in artifacts] == [{"index": 0}, {"index": 1}]
    assert [list(item["content"]) for item in artifacts] == [["file"], ["file"]]


def test_importers_take_their_uri_and_metadata_from_anywhere(agree: Agree, tmp_path: Path):
    (tmp_path / "file").write_text("imported")

    @dsl.container_component
    def told(data: dsl.Input[dsl.Dataset], out: dsl.OutputPath(str)):
        args = [data.path, "{{$.inputs.artifacts['data'].metadata}}", out]
        script = 'printf "%s %s" "$(cat "$1")" "$2" > "$3"'
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=args)

    @dsl.pipeline(name="p")
    def pipeline(uri: str, who: str = "me") -> str:
        where = say(text=uri)
        metadata = {"by": who, "n": 3, "deep": {"list": [f"<{who}>", 1.5]}}
        data = dsl.importer(artifact_uri=where.outputs["out"], artifact_class=dsl.Dataset, metadata=metadata)
        return told(data=data.output).outputs["out"]

    output = agree(pipeline, uri=str(tmp_path / "file")).outputs["Output"]
    text, _, metadata = output.partition(" ")
    assert text == "imported"
    assert json.loads(metadata) == {"by": "me", "n": 3, "deep": {"list": ["<me>", 1.5]}}


def test_environment_variables_refer_to_inputs_and_to_each_other(agree: Agree):
    @dsl.container_component
    def env(out: dsl.OutputPath(str)):
        script = 'printf "%s %s %s" "$FIRST" "$SECOND" "$THIRD" > "$1"'
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", script, "sh"], args=[out])

    @dsl.pipeline(name="p")
    def pipeline() -> str:
        task = env()
        task.set_env_variable("FIRST", "1")
        task.set_env_variable("SECOND", "$(FIRST)2$(NOT_THERE)")
        task.set_env_variable("THIRD", "$$(FIRST)$(SECOND)")
        return task.outputs["out"]

    assert agree(pipeline).outputs == {"Output": "1 12$(NOT_THERE) $(FIRST)12$(NOT_THERE)"}


def test_placeholders_of_job_and_task(agree: Agree):
    names = ["job_name", "job_resource_name", "job_uuid", "task_name", "task_uuid", "job_create_time_utc", "root"]
    everything = [f"{{{{$.pipeline_{name}}}}}" for name in [*names, "job_schedule_time_utc"]]

    @dsl.container_component
    def show(given: list, out: dsl.OutputPath(list)):
        script = "import json, sys; json.dump([json.loads(sys.argv[2]), sys.argv[3:]], open(sys.argv[1], 'w'))"
        return dsl.ContainerSpec(image="shell", command=["python3", "-c", script], args=[out, given, *everything])

    @dsl.pipeline(name="p")
    def pipeline() -> list:
        return show(given=everything).outputs["out"]

    as_constant, as_argument = agree(pipeline).outputs["Output"]
    assert as_constant == as_argument
    assert as_argument[0] == "p" and as_argument[3] == "show" and as_argument[4] == f"{as_argument[2]}/show"
    assert not any("{{" in text for text in as_argument)


def test_literals_are_held_to(agree: Agree):
    document = hand_written({"componentInputParameter": "choice"}, {"parameterType": "STRING", "literals": ["a", "b"]})
    assert agree(document, choice="a").states["leaf"] == "SUCCEEDED"
    seen = agree(document, choice="c")
    assert seen.states["leaf"] == "FAILED" and "allowed are a, b" in seen.failures["leaf"]


def hand_written(
    source: dict[str, Any], declared: dict[str, Any], word: str = "{{$.inputs.parameters['x']}}"
) -> dict[str, Any]:
    """Return the IR of a pipeline of one task that writes `word`; its input `x` comes from `source`."""
    command = ["sh", "-c", 'printf %s "$1" > "$2"', "sh", word, "{{$.outputs.parameters['out'].output_file}}"]
    output = {"out": {"parameterType": "STRING"}}
    return {
        "pipelineInfo": {"name": "hand"},
        "root": {
            "inputDefinitions": {"parameters": {"choice": {"parameterType": "STRING", "isOptional": True}}},
            "outputDefinitions": {"parameters": output},
            "dag": {
                "tasks": {"leaf": {"componentRef": {"name": "comp"}, "inputs": {"parameters": {"x": source}}}},
                "outputs": {
                    "parameters": {
                        "out": {"valueFromParameter": {"producerSubtask": "leaf", "outputParameterKey": "out"}}
                    }
                },
            },
        },
        "components": {
            "comp": {
                "executorLabel": "exec",
                "inputDefinitions": {"parameters": {"x": declared}},
                "outputDefinitions": {"parameters": output},
            }
        },
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "shell", "command": command}}}},
    }


def test_ir_written_by_hand_with_the_quotes_of_old_compilers(agree: Agree):
    document = hand_written({"runtimeValue": {"constant": "a {{$.pipeline_job_name}}"}}, {"parameterType": "STRING"})
    assert agree(document).outputs == {"out": "a hand"}
    document = hand_written(
        {"runtimeValue": {"constant": 5.0}}, {"parameterType": "NUMBER_INTEGER"}, "{{$.inputs.parameters[''x'']}}"
    )
    assert agree(document).outputs == {"out": "5"}
    assert agree({"pipelineSpec": document}).outputs == {"out": "5"}


def test_a_required_input_that_nobody_gives_fails_by_name(agree: Agree):
    document = hand_written({"componentInputParameter": "choice"}, {"parameterType": "STRING"})
    seen = agree(document)
    assert seen.states["leaf"] == "FAILED" and "'x' has no value" in seen.failures["leaf"]


def test_a_value_of_another_type_fails_by_name(agree: Agree):
    document = hand_written({"componentInputParameter": "choice"}, {"parameterType": "NUMBER_INTEGER"})
    seen = agree(document, choice="3")
    assert seen.states["leaf"] == "FAILED" and "NUMBER_INTEGER" in seen.failures["leaf"]


def test_what_is_not_understood_is_refused_before_anything_runs(agree: Agree):
    selector = {"componentInputParameter": "choice", "parameterExpressionSelector": "string_value.size()"}
    with pytest.raises(Exception, match=r"size\(\).*not supported"):
        agree(hand_written(selector, {"parameterType": "STRING"}))
    document = hand_written({"componentInputParameter": "choice"}, {"parameterType": "STRING"})
    document["root"]["dag"]["tasks"]["leaf"]["triggerPolicy"] = {"condition": "size(inputs.parameter_values['x']) > 1"}
    with pytest.raises(Exception, match="size"):
        agree(document)
    with pytest.raises(BadInput, match="nowhere"):
        agree(hand_written({"componentInputParameter": "nowhere"}, {"parameterType": "STRING"}))


def test_an_image_and_resources_may_come_from_inputs(agree: Agree):
    @dsl.pipeline(name="p")
    def pipeline(image: str = "shell", cpu: str = "1", memory: str = "1Gi") -> str:
        task = show_list(values=[1]).set_container_image(image).set_cpu_limit(cpu).set_memory_limit(memory)
        return task.outputs["out"]

    assert agree(pipeline).outputs == {"Output": "[1]"}
    seen = agree(pipeline, image="missing")
    assert "missing" in seen.failures["show-list"]
