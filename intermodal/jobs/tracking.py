"""What the trials of a sweep logged, read from the workspace's MLflow interface. No mlflow is needed: it is two addresses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from components.trainer.tracking import HYPERPARAMETERS_TAG
from intermodal.errors import EnvironmentProblem

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

_SCOPE = "https://management.azure.com/.default"
"""Source: azureml-examples, sdk/python/using-mlflow/using-rest-api."""
_MOST_TRIALS = 10_000
"""The SDK follows no pages of a job's children: without a number it would stop after the first."""


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep: its state as the service says it, and the last value of each metric that is a number."""

    name: str
    status: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] | None = None
    """What the trainer says that it trained with; None if it says nothing."""
    params: Mapping[str, str] = field(default_factory=dict)
    """MLflow params of the run, as text."""


def read_trials(ml_client: MLClient, sweep: str) -> list[Trial]:
    """Return the trials of a sweep in the order of their numbers. Raises EnvironmentProblem, or what the service answers."""
    children = [job for job in ml_client.jobs.list(parent_job_name=sweep, max_results=_MOST_TRIALS) if job is not None]
    with _Runs(ml_client) as runs:
        found = [
            trial_of(str(child.name), str(getattr(child.status, "value", child.status)), runs.get(str(child.name)))
            for child in children
        ]
    return sorted(found, key=lambda trial: (_number(trial.name), trial.name))


def trial_of(name: str, status: str, run: Mapping[str, Any]) -> Trial:
    """Return a trial of its run, as MLflow's `runs/get` has it; a metric that is no number is left out."""
    data = run.get("data", {})
    metrics = {str(item["key"]): float(item["value"]) for item in data.get("metrics", [])}
    tags = {str(item["key"]): str(item["value"]) for item in data.get("tags", [])}
    written = tags.get(HYPERPARAMETERS_TAG)
    return Trial(
        name,
        status,
        {key: value for key, value in metrics.items() if math.isfinite(value)},
        json.loads(written) if written is not None else None,
        {str(item["key"]): str(item["value"]) for item in data.get("params", [])},
    )


def _number(name: str) -> int:
    """Return the number of a trial, `<sweep>_<number>`."""
    last = name.rpartition("_")[2]
    return int(last) if last.isdigit() else -1


class _Runs:
    """Reads runs over the MLflow REST interface, with the client's own credential, retries and certificates."""

    def __init__(self, ml_client: MLClient) -> None:
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy

        workspace = ml_client.workspaces.get(ml_client.workspace_name)
        address = str(workspace.mlflow_tracking_uri or "") if workspace is not None else ""
        if not address.startswith(("azureml://", "https://")):
            raise EnvironmentProblem(
                f"workspace {ml_client.workspace_name}: has no MLflow address ({address or 'none'})"
            )
        self._base = "https://" + address.partition("://")[2].partition("?")[0].rstrip("/")
        # The client has no public way to its credential; the SDK's own operations are given this one.
        credential, options = ml_client._credential, ml_client._kwargs
        verify = {name: options[name] for name in ("connection_verify",) if name in options}
        policies = [RetryPolicy(), BearerTokenCredentialPolicy(credential, _SCOPE)]
        self._client: Any = PipelineClient(base_url=self._base, policies=policies, **verify)

    def __enter__(self) -> _Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, run: str) -> Mapping[str, Any]:
        """Return a run as MLflow's `runs/get` has it. Raises HttpResponseError."""
        from azure.core.rest import HttpRequest

        url = f"{self._base}/api/2.0/mlflow/runs/get?run_id={quote(run, safe='')}"
        answer = self._client.send_request(HttpRequest("GET", url))
        answer.raise_for_status()
        found: Mapping[str, Any] = answer.json()["run"]
        return found
