"""Compiling to AzureML: what is written, what is refused, and that the real SDK finds nothing wrong with it."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kfp import compiler, dsl

from intermodal.backends.azureml.bodies import Workspace, component_bodies, job_body
from intermodal.backends.azureml.compile import Compiled, compile_pipeline, write
from intermodal.backends.azureml.report import GAPS
from intermodal.backends.azureml.settings import AzureMLSettings, InstanceType, load_azureml_settings
from intermodal.backends.azureml.values import decode, encode
from intermodal.engine.artifacts import Inputs
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.load import load_pipeline
from tests.engine.steps import join, make, number, read, say

MACHINES = [
    InstanceType(cpus=4, memory="14Gi", instance_type="Standard_DS3_v2", price=0.3),
    InstanceType(cpus=2, memory="7Gi", instance_type="Standard_DS2_v2", price=0.15),
    InstanceType(cpus=6, memory="112Gi", compute="gpus", accelerator="nvidia.com/gpu", accelerators=1, price=3.0),
]


@pytest.fixture
def compiled(tmp_path: Path):
    """Compile a KFP function; what AzureML cannot keep is accepted unless `accept` says otherwise."""

    def go(
        pipeline: Any, settings: AzureMLSettings | None = None, accept: Any = GAPS, secrets: Any = (), **arguments: Any
    ):
        path = tmp_path / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        chosen = settings or AzureMLSettings(instance_types=MACHINES)
        return compile_pipeline(load_pipeline(path), Inputs(arguments), chosen, accept=accept, secrets=secrets)

    return go


@dsl.pipeline(name="everything")
def everything(text: str = 'it\'s "a" $(id) `x`', count: int = 3, items: list = ["a", "b"]) -> str:  # noqa: B006
    made = make(text=text)
    made.set_cpu_request("1").set_memory_limit("4Gi").set_retry(2)
    with dsl.ParallelFor(items, parallelism=1) as item:
        say(text=item)
    with dsl.If(count == 3):
        three = say(text="three")
    with dsl.Else():
        other = say(text="other")
    either = dsl.OneOf(three.outputs["out"], other.outputs["out"])
    return join(left=read(data=made.outputs["data"]).outputs["out"], right=either).outputs["out"]


def sdk_job(compiled: Compiled, folder: Path) -> Any:
    from azure.ai.ml import load_job

    write(compiled, folder / "job")
    return load_job(folder / "job" / "job.yml")


def test_the_sdk_loads_the_job_and_finds_nothing_wrong(compiled, tmp_path):
    job = sdk_job(compiled(everything), tmp_path)
    assert job._validate().passed
    assert job.jobs["make"].resources.instance_type == "Standard_DS2_v2"


def test_the_rest_bodies_are_those_of_the_sdk(compiled, tmp_path):
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder

    made = compiled(everything)
    workspace = Workspace.of(AzureMLSettings(subscription="s", resource_group="g", workspace="w"))
    job = sdk_job(made, tmp_path)
    nodes = {node.name: node for node in made.lowered.nodes}
    ours = component_bodies(made.lowered, workspace, made.code_version)
    for name, node in job.jobs.items():
        shape = nodes[name].shape
        spec = node.component._to_rest_object().as_dict()["properties"]["componentSpec"]
        mine = ours[shape.file]["properties"]["componentSpec"]
        for key in ("command", "inputs", "outputs", "type", "is_deterministic", "$schema", "display_name"):
            assert mine[key] == spec[key], key
        node._component = workspace.asset("components", shape.name, shape.version)
    body = json.loads(json.dumps(job._to_rest_object(), cls=SdkJSONEncoder, exclude_readonly=True))
    assert job_body(made.lowered, made.settings, workspace) == body


def test_equal_input_gives_equal_bytes_and_one_component_for_nodes_of_one_shape(compiled, tmp_path):
    @dsl.pipeline(name="wide")
    def wide():
        for _ in range(30):
            say(text="x")

    first, second = compiled(wide), compiled(wide)
    assert first.files() == second.files()
    assert len(first.lowered.nodes) == 30 and len(first.lowered.shapes) == 1


def test_a_change_elsewhere_leaves_a_nodes_wiring_as_it_was(compiled):
    def build(last: str):
        @dsl.pipeline(name="p")
        def pipeline():
            first = say(text="a")
            join(left=first.outputs["out"], right=last)

        return compiled(pipeline).job["jobs"]

    assert build("x")["say"]["inputs"]["w"] == build("y")["say"]["inputs"]["w"]
    assert build("x")["join"]["inputs"]["w"] != build("y")["join"]["inputs"]["w"]


def test_a_thousand_tasks_compile_in_seconds(compiled):
    @dsl.pipeline(name="many")
    def many(items: list):
        with dsl.ParallelFor(items) as item:
            join(left=say(text=item).outputs["out"], right="x")

    started = time.process_time()
    made = compiled(many, items=[str(number) for number in range(500)])
    made.files()
    assert len(made.lowered.nodes) == 1000
    assert time.process_time() - started < 10


@pytest.mark.parametrize("gap", ["exit-after-kill", "infrastructure-retry", "loop-bound"])
def test_what_azureml_cannot_keep_is_refused_until_it_is_accepted(compiled, gap):
    @dsl.container_component
    def listing(out: dsl.OutputPath(list)):
        return dsl.ContainerSpec(image="shell", command=["sh", "-c", 'echo "[1]" > "$0"'], args=[out])

    @dsl.pipeline(name="p")
    def pipeline():
        if gap == "exit-after-kill":
            with dsl.ExitHandler(say(text="bye")):
                say(text="a")
        elif gap == "infrastructure-retry":
            say(text="a").set_retry(1)
        else:
            with dsl.ParallelFor(listing().outputs["out"]) as item:
                number(value=item)

    with pytest.raises(Unsupported) as refused:
        compiled(pipeline, accept=())
    assert f"--accept {gap}" in (refused.value.hint or "")
    made = compiled(pipeline, accept=[gap])
    assert [entry.name for entry in made.report.gaps] == [gap]
    assert gap in made.report.as_markdown()


def test_names_that_collapse_are_refused_naming_both(tmp_path):
    document = {
        "pipelineInfo": {"name": "p"},
        "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "i", "command": ["a"]}}}},
        "components": {"comp-a": {"executorLabel": "exec-a"}},
        "root": {"dag": {"tasks": {name: {"componentRef": {"name": "comp-a"}} for name in ("step-a", "step.a")}}},
    }
    path = tmp_path / "p.json"
    path.write_text(json.dumps(document))
    with pytest.raises(BadInput, match=r"'step-a' and 'step.a' would both be 'step_a'"):
        compile_pipeline(load_pipeline(path), Inputs(), AzureMLSettings())


def test_a_request_that_no_machine_meets_names_the_task(compiled):
    @dsl.pipeline(name="p")
    def pipeline():
        say(text="a").set_cpu_limit("64")

    with pytest.raises(Unsupported, match="say: asks for 64 CPUs"):
        compiled(pipeline)


def test_an_accelerator_gets_a_machine_that_has_it(compiled):
    @dsl.pipeline(name="p")
    def pipeline():
        say(text="a").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)

    assert compiled(pipeline).job["jobs"]["say"]["compute"] == "azureml:gpus"


def test_a_secrets_value_never_stands_in_a_job(compiled):
    @dsl.pipeline(name="p")
    def pipeline(token: str):
        say(text=token)

    with pytest.raises(BadInput, match="holds the value of a secret"):
        compiled(pipeline, secrets=["hunter2-hunter2"], token="hunter2-hunter2")


def test_a_job_with_another_file_in_its_folder_is_not_overwritten(compiled, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="holds something else"):
        write(compiled(everything), folder)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_the_report_says_how_each_construct_was_realised(compiled):
    lines = compiled(everything).report.lines
    assert {"container", "condition", "OneOf", "ParallelFor", "parallelism", "retry", "resources"} <= {
        x.construct for x in lines
    }
    assert json.loads(compiled(everything).report.as_json())["nodes"]["kfp_verdict"] == ""


def test_settings_come_from_the_project_and_the_environment(tmp_path):
    (tmp_path / "pyproject.toml").write_text('[tool.intermodal.azureml]\nworkspace = "w"\nfan_out = 3\n')
    settings = load_azureml_settings(
        tmp_path, {"INTERMODAL_AZUREML_FAN_OUT": "5", "INTERMODAL_AZUREML_SUBSCRIPTION": "s"}
    )
    assert (settings.workspace, settings.fan_out, settings.subscription) == ("w", 5, "s")
    with pytest.raises(BadInput, match="INTERMODAL_AZUREML_WORKSPCE"):
        load_azureml_settings(tmp_path, {"INTERMODAL_AZUREML_WORKSPCE": "x"})
    (tmp_path / "pyproject.toml").write_text("[tool.intermodal.azureml]\nfan_out = 0\n")
    with pytest.raises(BadInput, match="fan_out"):
        load_azureml_settings(tmp_path, {})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_text_survives_a_shell(value: str):
    literal = encode(value, "STRING")
    assert literal and decode(literal, "STRING") == value
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {literal} end"], capture_output=True, text=True, check=True)
    assert words.stdout.split("\n") == [literal, "end", ""]


@given(
    st.lists(JSON_VALUES, max_size=3), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
def test_values_survive_their_encoding(items, truth, whole, real):
    assert decode(str(encode(items, "LIST")), "LIST") == items
    assert decode(str(encode(truth, "BOOLEAN")), "BOOLEAN") is truth
    assert decode(str(encode(whole, "NUMBER_INTEGER")), "NUMBER_INTEGER") == whole
    assert decode(str(encode(real, "NUMBER_DOUBLE")), "NUMBER_DOUBLE") == real
    assert decode(str(encode(None, "NUMBER_DOUBLE")), "NUMBER_DOUBLE") is None


def test_the_written_job_is_yaml_that_reads_back(compiled, tmp_path):
    made = compiled(everything)
    write(made, tmp_path / "job")
    assert yaml.safe_load((tmp_path / "job" / "job.yml").read_text()) == made.job
    write(made, tmp_path / "job")  # again, over the first
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
