"""A search step as a native sweep node: what is written is what the SDK makes of it, and what cannot be one is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl
from pydantic import ValidationError

from components.hpo.component import hpo
from components.trainer.component import trainer
from intermodal.backends.azureml.bodies import Workspace, component_bodies, job_body
from intermodal.backends.azureml.compile import Compiled, compile_pipeline, write
from intermodal.backends.azureml.native_sweep import NativeSweep
from intermodal.backends.azureml.report import GAPS
from intermodal.backends.azureml.requests import job_inputs
from intermodal.backends.azureml.settings import AzureMLSettings, load_azureml_settings
from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.errors import BadInput, Unsupported
from intermodal.sources import load_source, read_values
from intermodal.spec.load import load_pipeline
from intermodal.spec.types import ArtifactType
from tests.engine.steps import number, say

SPACE = {
    "learning_rate": {"type": "loguniform", "min": 0.002, "max": 0.02},
    "batch_size": {"type": "choice", "values": [2, 4]},
    "dropout": {"type": "quniform", "min": 0.0, "max": 0.5, "q": 0.25},
}
ROOT = Path(__file__).parents[3]
WORKSPACE = AzureMLSettings(subscription="s", resource_group="g", workspace="w")


def search(dataset: Any, backbone: Any, search_space: Any = SPACE, trials: Any = 3) -> Any:
    return hpo(
        dataset=dataset, backbone=backbone, search_space=search_space, training={"epochs": 1}, trials=trials,
        sampler="tpe", pruner="median", seed=1,
    )  # fmt: skip


@dsl.pipeline(name="searching")
def searching(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model], trials: int = 3) -> dict:
    found = search(dataset, backbone, trials=trials)
    trainer(
        dataset=dataset,
        backbone=backbone,
        hyperparameters=found.outputs["best_parameters"],
        training={"epochs": 1},
        seed=1,
    )
    return found.outputs["best_parameters"]


def compiled(pipeline: Any, folder: Path, accept: Any = GAPS, **sweep: Any) -> Compiled:
    path = folder / "pipeline.yaml"
    compiler.Compiler().compile(pipeline, str(path))
    loaded = load_pipeline(path)
    given = {
        name: (Artifact(name, ArtifactType("system.Artifact"), uri=f"azureml://datastores/d/paths/{name}"),)
        for name in loaded.root.input_artifacts
    }
    settings = WORKSPACE.model_copy(update={"sweeps": {"hpo": NativeSweep(**sweep)}})
    return compile_pipeline(loaded, Inputs({}, given), settings, accept=accept)


@pytest.mark.parametrize(
    "sweep",
    [
        {"max_concurrent_trials": 2, "timeout_minutes": 60, "trial_timeout_minutes": 5},
        {"early_termination": {"policy": "bandit", "slack_factor": 0.2}},
        {"early_termination": {"policy": "median", "delay_evaluation": 2}},
        {"early_termination": {"policy": "truncation", "truncation_percentage": 20}},
    ],
)
def test_the_sdk_loads_the_job_and_makes_the_same_body_of_it(sweep, tmp_path):
    from azure.ai.ml import load_job
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder

    made = compiled(searching, tmp_path, **sweep)
    write(made, tmp_path / "job")
    job = load_job(tmp_path / "job" / "job.yml")
    assert job._validate().passed
    node = job.jobs["hpo"]
    assert set(node.search_space) == {"s_learning_rate", "s_batch_size", "s_dropout"}
    assert node.limits.max_total_trials == 3
    workspace = Workspace.of(WORKSPACE)
    nodes = {node.name: node for node in made.lowered.nodes}
    bodies = component_bodies(made.lowered, workspace, made.code_version)
    for name, node in job.jobs.items():
        shape = nodes[name].shape
        component = node.trial if name == "hpo" else node.component
        spec = component._to_rest_object().as_dict()["properties"]["componentSpec"]
        ours = bodies[shape.file]["properties"]["componentSpec"]
        assert (ours["command"], ours["inputs"], ours["outputs"]) == (spec["command"], spec["inputs"], spec["outputs"])
        node._component = workspace.asset("components", shape.name, shape.version)
    body = json.loads(json.dumps(job._to_rest_object(), cls=SdkJSONEncoder, exclude_readonly=True))
    assert job_body(made.lowered, made.settings, workspace) == body


def test_what_comes_after_binds_the_sweeps_outputs_and_the_report_says_what_it_is(tmp_path):
    made = compiled(searching, tmp_path)
    assert made.job["jobs"]["trainer"]["inputs"]["m_0"] == "${{parent.jobs.hpo.outputs.kfp_meta}}"
    (line,) = [line for line in made.report.lines if line.construct == "search"]
    assert line.task == "hpo" and "native sweep" in line.note
    plain = compiled(searching, tmp_path).files()
    assert plain == made.files()
    (shape,) = [node.shape for node in made.lowered.nodes if node.name == "hpo"]
    assert "--try learning_rate=${{inputs.s_learning_rate}}" in shape.document()["command"]


@dsl.pipeline(name="conditional")
def conditional(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model]):
    with dsl.If(number(value=1).output == 1):
        search(dataset, backbone)


@dsl.pipeline(name="handled")
def handled(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model]):
    with dsl.ExitHandler(say(text="over")):
        search(dataset, backbone)


@dsl.pipeline(name="late")
def late(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model]):
    search(dataset, backbone, trials=number(value=1).output)


@dsl.pipeline(name="mistyped")
def mistyped(dataset: dsl.Input[dsl.Dataset], backbone: dsl.Input[dsl.Model]):
    search(dataset, backbone, search_space={"learning_rat": SPACE["learning_rate"]})


@pytest.mark.parametrize(
    ("pipeline", "error", "words"),
    [
        (conditional, Unsupported, "condition-1/hpo: may be skipped"),
        (handled, Unsupported, "exit-handler-1/hpo: is before a task that runs whatever happened"),
        (late, Unsupported, "hpo: a native sweep needs 'trials' at submission"),
        (mistyped, BadInput, "hpo: unknown hyperparameter in the search space 'learning_rat'"),
    ],
)
def test_what_cannot_be_a_sweep_names_the_task(pipeline, error, words, tmp_path):
    with pytest.raises(error, match=words):
        compiled(pipeline, tmp_path)


def test_what_azureml_cannot_draw_names_task_and_dimension(tmp_path):
    with pytest.raises(Unsupported, match="hpo: search space learning_rate: bayesian"):
        compiled(searching, tmp_path, sampling="bayesian")
    with pytest.raises(ValidationError, match="supports no early_termination"):
        NativeSweep(sampling="bayesian", early_termination={"policy": "median"})


def test_a_component_that_is_not_there_is_a_note(tmp_path):
    path = tmp_path / "pipeline.yaml"

    @dsl.pipeline(name="p")
    def pipeline():
        say(text="x")

    compiler.Compiler().compile(pipeline, str(path))
    settings = WORKSPACE.model_copy(update={"sweeps": {"hop": NativeSweep()}})
    made = compile_pipeline(load_pipeline(path), Inputs({}), settings)
    assert "sweeps.hop: no task of this pipeline is one" in made.report.warnings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"workers": 2}, "for-loop-2/0/hpo: a native sweep shares its trials out itself"),
        ({"search": {"folds": 3}}, "hpo: a native sweep knows no folds"),
        ({"search": {"minutes": 5}}, "hpo: a native sweep knows no minutes"),
    ],
)
def test_what_the_step_would_do_with_its_trials_is_refused_of_a_sweep(values, words):
    source = load_source(ROOT / "pipelines/ner.py", None)
    arguments, _ = job_inputs(source, values, from_file=True)
    settings = load_azureml_settings(ROOT, {}).model_copy(update={"sweeps": {"hpo": NativeSweep()}})
    with pytest.raises(Unsupported, match=words):
        compile_pipeline(source.pipeline, arguments, settings)


def test_the_factory_gets_a_sweep_for_each_backbone(tmp_path):
    from azure.ai.ml import load_job

    source = load_source(ROOT / "pipelines/ner.py", None)
    values = read_values(ROOT / "pipelines/configs/default.yaml", [])
    arguments, _ = job_inputs(source, values, from_file=True)
    settings = load_azureml_settings(ROOT, {}).model_copy(update={"sweeps": {"hpo": NativeSweep()}})
    made = compile_pipeline(source.pipeline, arguments, settings)
    sweeps = [name for name, node in made.job["jobs"].items() if node["type"] == "sweep"]
    assert len(sweeps) == len(values["backbones"]) == 2
    for name in sweeps:
        node = made.job["jobs"][name]
        assert node["limits"]["max_total_trials"] == values["search"]["trials"]
        assert {port.removeprefix("s_") for port in node["search_space"]} == set(values["search_space"])
    write(made, tmp_path / "job")
    assert load_job(tmp_path / "job" / "job.yml")._validate().passed
