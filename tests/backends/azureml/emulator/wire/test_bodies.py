"""Bodies of the real client fit Microsoft's published models, and what does not fit is refused with the field's name."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import Input, MLClient, Output, command, dsl, load_component
from azure.ai.ml.entities import BuildContext, CommandComponent, Data, Environment, Model
from azure.ai.ml.sweep import BanditPolicy, Choice, LogUniform
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest
from azure.mgmt.machinelearningservices import models as published

from intermodal.backends.azureml.emulator.answers import Refused
from intermodal.backends.azureml.emulator.plane import Plane
from intermodal.backends.azureml.emulator.published import NEWER, check_body

ENVIRONMENT = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/environments/e/versions/1"
COMMAND = {
    "jobType": "Command",
    "command": "true",
    "environmentId": ENVIRONMENT,
    "inputs": {
        "a": {"jobInputType": "literal", "value": "1"},
        "d": {"jobInputType": "uri_folder", "uri": "azureml://x"},
    },
    "limits": {"jobLimitsType": "Command", "timeout": "PT1H"},
    "resources": {"instanceCount": 1, "shmSize": "2g"},
    "distribution": {"distributionType": "PyTorch", "processCountPerInstance": 1},
    "queueSettings": {"jobTier": "Spot"},
}


@pytest.mark.parametrize(
    ("path", "value", "field", "words"),
    [
        ("comand", "x", "properties.comand", "is no field of CommandJob"),
        ("command", None, "properties.command", "is required"),
        ("command", 5, "properties.command", "must be of type str"),
        ("command", "", "properties.command", "must not be empty"),
        ("jobType", "Commando", "properties.jobType", "not one of AutoML, Command, Pipeline, Sweep"),
        ("jobType", None, "properties.jobType", "is required"),
        ("inputs.a.jobInputType", "number", "properties.inputs.a.jobInputType", "not one of"),
        ("inputs.a.mode", "Download", "properties.inputs.a.mode", "is no field of LiteralJobInput"),
        ("inputs.d.uri", None, "properties.inputs.d.uri", "is required"),
        ("inputs", [], "properties.inputs", "must be an object"),
        ("limits.timeout", "1 hour", "properties.limits.timeout", "no ISO 8601 duration"),
        ("resources.instanceCount", "1", "properties.resources.instanceCount", "must be of type int"),
        ("resources.instanceCount", True, "properties.resources.instanceCount", "must be of type int"),
        ("resources.shmSize", "much", "properties.resources.shmSize", "does not match"),
        ("distribution.distributionType", "Gloo", "properties.distribution.distributionType", "not one of"),
        ("tags", {"a": {}}, "properties.tags.a", "must be of type str"),
    ],
)
def test_what_does_not_fit_is_named(path: str, value: Any, field: str, words: str):
    body: dict[str, Any] = {"properties": copy.deepcopy(COMMAND)}
    assert check_body("jobs", body)["command"] == "true"
    *parents, last = path.split(".")
    place = body["properties"]
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(Refused) as refused:
        check_body("jobs", body)
    assert refused.value.target == field
    assert words in refused.value.message
    assert refused.value.status == 400


def test_the_refusal_reaches_the_client(client: MLClient):
    with pytest.raises(HttpResponseError) as refused:
        client._operation_container.all_operations["jobs"].service_client_01_2024_preview_arm.jobs.create_or_update(
            id="wrong",
            resource_group_name=client.resource_group_name,
            workspace_name=client.workspace_name,
            body={"properties": {**COMMAND, "comand": "x"}},
        )
    assert refused.value.status_code == 400
    assert refused.value.error.target == "properties.comand"


def test_a_component_made_of_a_prompt_flow_is_refused_by_name(client: MLClient, tmp_path: Path):
    (tmp_path / "flow/.promptflow").mkdir(parents=True)
    (tmp_path / "flow/.promptflow/flow.tools.json").write_text("{}", encoding="utf-8")
    schema = "https://azuremlschemas.azureedge.net/promptflow/latest/Flow.schema.json"
    flow = f"$schema: {schema}\ninputs: {{}}\noutputs: {{}}\nnodes: []\n"
    (tmp_path / "flow/flow.dag.yaml").write_text(flow, encoding="utf-8")
    with pytest.raises(
        HttpResponseError, match="prompt flow; the emulator runs command, pipeline and sweep"
    ) as refused:
        client.components.create_or_update(load_component(tmp_path / "flow/flow.dag.yaml"))
    assert refused.value.status_code == 400


def test_all_that_the_client_sends_fits_microsofts_models(plane: Plane, client: MLClient, tmp_path: Path):
    """Every body, through Microsoft's own deserializer and back: nothing is lost, nothing comes but defaults."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "Dockerfile").write_text("FROM scratch")
    image = Environment(image="python:3.11")
    step = CommandComponent(
        name="step",
        command="echo ${{inputs.rate}} > ${{outputs.o}}/f",
        code=str(tmp_path / "code"),
        environment=image,
        inputs={
            "rate": {"type": "number", "default": 0.5, "optional": False},
            "n": {"type": "integer", "optional": True},
        },
        outputs={"o": {"type": "uri_folder"}},
    )
    client.data.create_or_update(Data(name="d", path=str(tmp_path / "code"), type="uri_folder", tags={"a": "b"}))
    client.models.create_or_update(Model(name="m", path=str(tmp_path / "code"), type="custom_model"))
    client.environments.create_or_update(Environment(name="e", build=BuildContext(path=str(tmp_path / "code"))))
    single = command(
        command="echo ${{inputs.rate}}",
        environment=image,
        inputs={"rate": 0.5, "data": Input(type="uri_folder", path="azureml:d:1")},
        outputs={"o": Output(type="uri_folder")},
        environment_variables={"A": "1"},
        distribution={"type": "PyTorch", "process_count_per_instance": 1},
        timeout=60,
        instance_count=1,
        tags={"t": "1"},
    )

    @dsl.pipeline(default_compute="cpu-cluster")
    def pipeline(rate=0.25):
        first = step(rate=rate)
        first.set_limits(timeout=60)
        return {"o": first.outputs.o}

    trial = single(rate=Choice([0.1, 0.2]), data=Input(type="uri_folder", path="azureml:d:1"))
    searched = trial.sweep(sampling_algorithm="random", primary_metric="f1", goal="maximize")
    searched.search_space = {"rate": LogUniform(min_value=-10, max_value=-1)}
    searched.set_limits(max_total_trials=2, max_concurrent_trials=1, timeout=600)
    searched.early_termination = BanditPolicy(slack_factor=0.1, evaluation_interval=1)
    searched.compute = "cpu-cluster"
    for job in (single, pipeline(), searched):
        name = client.jobs.create_or_update(job).name
        plane.wait(name, 60)

    kinds = {"codes": "CodeVersion", "data": "DataVersionBase", "environments": "EnvironmentVersion"}
    kinds |= {"components": "ComponentVersion", "models": "ModelVersion"}
    bodies = [(model, asset.properties) for kind, model in kinds.items() for asset in plane.records.assets(kind)]
    bodies += [("JobBase", run.body["properties"]) for run in plane.records.jobs()]
    assert {str(properties.get("jobType")) for model, properties in bodies} >= {"Command", "Pipeline", "Sweep"}
    assert {model for model, _ in bodies} == {"JobBase", *kinds.values()}
    for model, properties in bodies:
        back = getattr(published, model).deserialize({"properties": json.loads(json.dumps(properties))}).serialize()
        later = NEWER.get(f"{properties.get('jobType')}Job", frozenset())
        sent = {key: value for key, value in properties.items() if key not in later}
        assert not _lost(sent, back["properties"]), model


def _lost(sent: Any, back: Any, place: str = "") -> list[str]:
    """Name what was sent and did not come back."""
    if isinstance(sent, Mapping) and isinstance(back, Mapping):
        return [
            wrong
            for key, value in sent.items()
            if value is not None
            for wrong in _lost(value, back.get(key), f"{place}.{key}")
        ]
    return [] if sent == back or str(sent).lower() == str(back).lower() else [f"{place}: {sent!r} became {back!r}"]


def test_answers_have_the_services_forms(plane: Plane, client: MLClient, tmp_path: Path):
    spec = CommandComponent(
        name="forms", command="true", environment="azureml:forms:1", inputs={"n": {"type": "integer", "default": 3}}
    )
    client.environments.create_or_update(Environment(name="forms", image="i"))
    made = client.components.create_or_update(spec)
    sent = plane.component(made.id)
    shown = _get(plane, client, f"/components/forms/versions/{made.version}")["properties"]["componentSpec"]
    assert sent["inputs"]["n"]["default"] in (3, "3")
    assert shown["inputs"]["n"]["default"] == "3"
    assert shown["is_deterministic"] == "True"
    job = client.jobs.create_or_update(
        command(command="true", environment="azureml:forms:1", experiment_name="Default")
    )
    plane.wait(job.name, 60)
    properties = _get(plane, client, f"/jobs/{job.name}")["properties"]
    assert properties["experimentName"] == "Default"
    assert set(properties["services"]) == {"Tracking", "Studio"}
    error = _get(plane, client, "/jobs/absent", status=404)["error"]
    assert error["code"] == "UserError"
    assert {item["type"] for item in error["additionalInfo"]} >= {"ComponentName", "Correlation"}
    assert (
        _get(plane, client, "/jobs", version="2001-01-01", status=400)["error"]["code"] == "InvalidApiVersionParameter"
    )
    assert _get(plane, client, "/onlineEndpoints", status=404)["error"]["code"] == "NotFound"


def _get(plane: Plane, client: MLClient, path: str, *, version: str = "2024-01-01-preview", status: int = 200) -> Any:
    service = client.jobs.service_client_01_2024_preview_arm
    address = f"{plane.address}{plane.workspace}{path}?api-version={version}"
    answer = service.send_request(HttpRequest("GET", address))
    assert answer.status_code == status, answer.text()
    return answer.json()
