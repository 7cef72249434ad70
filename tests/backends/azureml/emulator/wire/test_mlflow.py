"""MLflow's own client, and plain requests as the trainer's, under the workspace's tracking address."""

from __future__ import annotations

import json
import math
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import MLClient, command
from azure.ai.ml.entities import Environment

from components.trainer.tracking import Tracking
from intermodal.backends.azureml.emulator.plane import Plane
from intermodal.jobs.tracking import _Runs

IMAGE = Environment(image="python:3.11")


@pytest.fixture
def job(client: MLClient, plane: Plane) -> str:
    name = client.jobs.create_or_update(command(command="true", environment=IMAGE)).name
    assert plane.wait(name, 60).status == "Completed"
    return str(name)


@pytest.fixture
def inside(plane: Plane, job: str) -> Iterator[str]:
    """The environment of a job's own process; gives the job's run."""
    ours = {
        "MLFLOW_TRACKING_URI": plane.tracking_uri,
        "MLFLOW_TRACKING_TOKEN": plane.token(job),
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(plane.authority),
        "SSL_CERT_FILE": str(plane.authority),
        "MLFLOW_RUN_ID": job,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    before = dict(os.environ)
    os.environ.update(ours)
    yield job
    os.environ.clear()
    os.environ.update(before)


def test_mlflows_own_client_logs_finds_and_brings_back(plane: Plane, inside: str, tmp_path: Path):
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts, list_artifacts
    from mlflow.exceptions import MlflowException

    client = MlflowClient(plane.tracking_uri)
    client.log_metric(inside, "loss", 0.5, step=1)
    client.log_metric(inside, "loss", 0.25, step=2)
    client.log_metric(inside, "broken", math.nan)
    client.log_param(inside, "rate", "0.001")
    client.set_tag(inside, "kind", "trial")
    run = client.get_run(inside)
    assert run.data.metrics["loss"] == 0.25
    assert math.isnan(run.data.metrics["broken"])
    assert run.data.params == {"rate": "0.001"}
    assert run.data.tags["kind"] == "trial"
    assert [metric.value for metric in client.get_metric_history(inside, "loss")] == [0.5, 0.25]
    assert plane.metrics(inside)["loss"] == 0.25
    with pytest.raises(MlflowException, match=r"is '0\.001' already"):
        client.log_param(inside, "rate", "0.002")

    experiment = client.get_experiment_by_name(plane.records.run(inside).experiment)
    assert experiment is not None
    made = client.create_run(experiment.experiment_id, tags={"kind": "child"}, run_name="second")
    client.log_metric(made.info.run_id, "loss", 0.75)
    client.set_terminated(made.info.run_id)
    found = client.search_runs(
        [experiment.experiment_id], "metrics.loss < 1 and tags.kind LIKE '%i%'", order_by=["metrics.loss DESC"]
    )
    assert [run.info.run_id for run in found] == [made.info.run_id, inside]
    assert found[0].info.status == "FINISHED"
    assert found[0].data.tags["mlflow.parentRunId"] == inside
    assert [run.info.run_id for run in client.search_runs([experiment.experiment_id], "tags.kind = 'child'")] == [
        made.info.run_id
    ]
    with pytest.raises(MlflowException, match="does not understand"):
        client.search_runs([experiment.experiment_id], "loss is small")

    (tmp_path / "down").mkdir()
    (tmp_path / "plot.txt").write_text("a plot")
    client.log_artifact(inside, str(tmp_path / "plot.txt"), "plots")
    # By the run's id MLflow 3 looks for logged models first, which AzureML does not have: by the address it works.
    listed = list_artifacts(f"{run.info.artifact_uri}/plots", tracking_uri=plane.tracking_uri)
    assert [Path(file.path).name for file in listed] == ["plot.txt"]
    address = f"{run.info.artifact_uri}/plots/plot.txt"
    fetched = download_artifacts(address, dst_path=str(tmp_path / "down"), tracking_uri=plane.tracking_uri)
    assert Path(fetched).read_text() == "a plot"
    with pytest.raises(MlflowException, match="no logged models"):
        client.create_logged_model(experiment.experiment_id)


def test_a_jobs_token_writes_to_its_own_run_only(plane: Plane, client: MLClient, inside: str):
    other = client.jobs.create_or_update(command(command="true", environment=IMAGE)).name
    body = {"run_id": other, "key": "loss", "value": 1}
    with pytest.raises(urllib.error.HTTPError) as refused:
        _post(plane, f"{plane.tracking_uri}/api/2.0/mlflow/runs/log-metric", body, plane.token(inside))
    assert refused.value.code == 403
    with pytest.raises(urllib.error.HTTPError) as refused:
        _post(
            plane,
            f"{plane.address}{plane.workspace}/jobs/{other}/cancel?api-version=2023-04-01-preview",
            {},
            plane.token(inside),
        )
    assert refused.value.code == 403


def test_what_the_trainer_logs_is_what_a_selection_reads(plane: Plane, client: MLClient, inside: str):
    tracking = Tracking(plane.tracking_uri, inside, os.environ["MLFLOW_TRACKING_TOKEN"], required=True)
    tracking._log(tags={"t": "1"}, metrics={"f1": 0.5}, step=1)
    tracking._log(tags={}, metrics={"f1": 0.75}, step=2)
    with _Runs(client) as runs:
        data = runs.get(inside)["data"]
    assert {item["key"]: item["value"] for item in data["metrics"]} == {"f1": 0.75}
    assert {"key": "t", "value": "1"} in data["tags"]


def test_run_history_takes_what_a_job_says_of_itself(plane: Plane, client: MLClient, inside: str):
    url = f"{plane.address}/history/v1.0{plane.workspace}/experimentids/any/runs/{inside}"
    _post(plane, url, {"tags": {"kfp.state": "SUCCEEDED"}, "properties": {"p": "1"}}, plane.token(inside), "PATCH")
    got = client.jobs.get(inside)
    assert (got.tags["kfp.state"], got.properties["p"]) == ("SUCCEEDED", "1")
    with pytest.raises(urllib.error.HTTPError) as refused:
        _post(plane, url, {"properties": {"p": "x" * 1001}}, plane.token(inside), "PATCH")
    assert "more than 1000 characters" in json.load(refused.value)["error"]["message"]


def _post(plane: Plane, url: str, body: Any, token: str, method: str = "POST") -> Any:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(
        request, context=ssl.create_default_context(cafile=plane.authority), timeout=30
    ) as answer:
        return json.load(answer)
