"""A lowered pipeline as files: the job and its components as `az ml job create -f` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intermodal.backends.azureml.lower import Lowered, Node
from intermodal.backends.azureml.settings import AzureMLSettings

_SCHEMA = "https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json"


def job_document(lowered: Lowered, settings: AzureMLSettings) -> dict[str, Any]:
    """Return the pipeline job; components are files in `components/` beside it."""
    document: dict[str, Any] = {
        "$schema": _SCHEMA,
        "type": "pipeline",
        "display_name": lowered.name,
        "experiment_name": settings.experiment or lowered.name,
        "inputs": dict(lowered.inputs),
        "outputs": {name: {"type": item["type"]} for name, item in lowered.outputs.items()},
        "jobs": {node.name: node_document(node, _job_outputs(node, lowered)) for node in lowered.nodes},
        "settings": {
            "default_compute": default_compute(settings),
            "continue_on_step_failure": not settings.fail_fast,
            "force_rerun": False,
        },
        "tags": {"kfp.pipeline": lowered.name, **settings.tags},
    }
    if settings.datastore:
        document["settings"]["default_datastore"] = f"azureml:{settings.datastore}"
    if settings.identity:
        document["identity"] = identity(settings)
    return document


def default_compute(settings: AzureMLSettings) -> str:
    return "serverless" if settings.compute in ("", "serverless") else f"azureml:{settings.compute}"


def identity(settings: AzureMLSettings) -> dict[str, Any]:
    if settings.identity == "user":
        return {"type": "user_identity"}
    client = {"client_id": settings.identity_client_id} if settings.identity_client_id else {}
    return {"type": "managed", **client}


def node_document(node: Node, bound: Mapping[str, str]) -> dict[str, Any]:
    """Return one node; `bound` are its outputs that are outputs of the job."""
    outputs: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in node.outputs.items()
    }
    outputs |= bound
    document: dict[str, Any] = {
        "type": "command" if node.sweep is None else "sweep",
        "component" if node.sweep is None else "trial": f"./components/{node.shape.file}",
        "display_name": node.path or "verdict",
        "inputs": {name: {"path": v} if isinstance(v, Mapping) else v for name, v in node.inputs.items()},
    }
    if outputs:
        document["outputs"] = outputs
    place = node.place
    if place.compute:
        document["compute"] = f"azureml:{place.compute}"
    resources = {"instance_type": place.instance_type, "shm_size": place.shm_size}
    resources = {name: value for name, value in resources.items() if value}
    if resources:
        document["resources"] = resources
    if node.sweep is not None:
        document |= node.sweep
    if place.timeout is not None:
        limit = int(-(-place.timeout // 1))
        document["limits"] = (
            {"timeout": limit} if node.sweep is None else {"trial_timeout": limit, **node.sweep["limits"]}
        )
    return document


def _job_outputs(node: Node, lowered: Lowered) -> dict[str, str]:
    """Return which of the node's outputs are outputs of the job, as the node binds them."""
    prefix = f"${{{{parent.jobs.{node.name}.outputs."
    return {
        item["binding"].removeprefix(prefix).removesuffix("}}"): f"${{{{parent.outputs.{name}}}}}"
        for name, item in lowered.outputs.items()
        if item.get("binding", "").startswith(prefix)
    }
