"""The REST bodies of a submission, exactly as they are sent: environments, code, components, job.

Source: what azure-ai-ml 1.35 sends (API versions 2023-04-01 to 2024-01-01-preview); a test compares them with what the real
client puts on the wire.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from intermodal.backends.azureml.job import job_document
from intermodal.backends.azureml.lower import Lowered, Shape
from intermodal.backends.azureml.native_sweep import rest_form
from intermodal.backends.azureml.settings import AzureMLSettings

CODE_NAME = "kfp-launcher"
ENVIRONMENT_PREFIX = "kfp-"


@dataclass(frozen=True)
class Workspace:
    """Where a job goes; the parts that are not known yet stand in angle brackets."""

    subscription: str
    resource_group: str
    name: str

    @staticmethod
    def of(settings: AzureMLSettings) -> Workspace:
        return Workspace(
            settings.subscription or "<subscription>",
            settings.resource_group or "<resource-group>",
            settings.workspace or "<workspace>",
        )

    @property
    def path(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    def asset(self, kind: str, name: str, version: str) -> str:
        """Return the ARM id of a version of an asset."""
        return f"{self.path}/{kind}/{name}/versions/{version}"


def environment_name(image: str) -> str:
    return ENVIRONMENT_PREFIX + hashlib.sha256(image.encode()).hexdigest()[:16]


def environment_bodies(lowered: Lowered) -> dict[str, Any]:
    """Return the environments by name; the version is always 1: the name is made of the image."""
    images = sorted({shape.image for shape in lowered.shapes.values()})
    return {environment_name(image): {"properties": {"image": image, "isAnonymous": False}} for image in images}


def component_bodies(lowered: Lowered, workspace: Workspace, code_version: str) -> dict[str, Any]:
    """Return the components by file."""
    return {file: _component(shape, workspace, code_version) for file, shape in lowered.shapes.items()}


def _component(shape: Shape, workspace: Workspace, code_version: str) -> dict[str, Any]:
    spec = {
        **shape.document(),
        "version": shape.version,
        "code": workspace.asset("codes", CODE_NAME, code_version),
        "environment": workspace.asset("environments", environment_name(shape.image), "1"),
        "_source": "YAML.COMPONENT",
    }
    return {
        "properties": {"componentSpec": spec, "isAnonymous": False, "isArchived": False, "properties": {}, "tags": {}}
    }


def job_body(lowered: Lowered, settings: AzureMLSettings, workspace: Workspace) -> dict[str, Any]:
    """Return the body of the job; its components are referred to by id."""
    document = job_document(lowered, settings)
    nodes = {node.name: node for node in lowered.nodes}
    jobs = {name: _node(name, item, nodes[name].shape, workspace) for name, item in document["jobs"].items()}
    properties: dict[str, Any] = {
        "jobType": "Pipeline",
        "displayName": document["display_name"],
        "experimentName": document["experiment_name"],
        "inputs": {name: _job_input(value) for name, value in document["inputs"].items()},
        "outputs": {name: {"jobOutputType": value["type"]} for name, value in document["outputs"].items()},
        "jobs": jobs,
        "settings": {**_arm_settings(document["settings"], workspace), "_source": "YAML.JOB"},
        "tags": document["tags"],
        "properties": {},
        "isArchived": False,
    }
    if "identity" in document:
        kinds = {"managed": "Managed", "user_identity": "UserIdentity"}
        properties["identity"] = {"identityType": kinds[document["identity"]["type"]]}
        if "client_id" in document["identity"]:
            properties["identity"]["clientId"] = document["identity"]["client_id"]
    return {"properties": properties}


def _arm_settings(settings: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    changed = dict(settings)
    if settings["default_compute"] != "serverless":
        changed["default_compute"] = f"{workspace.path}/computes/{settings['default_compute'].removeprefix('azureml:')}"
    if "default_datastore" in settings:
        changed["default_datastore"] = (
            f"{workspace.path}/datastores/{settings['default_datastore'].removeprefix('azureml:')}"
        )
    return changed


def _job_input(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"uri": value["path"], "jobInputType": value["type"], "mode": "ReadOnlyMount"}
    return {"value": str(value), "jobInputType": "literal"}


def _node(name: str, item: Mapping[str, Any], shape: Shape, workspace: Workspace) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": name,
        "type": item["type"],
        "display_name": item["display_name"],
        "inputs": {port: {"value": str(value), "job_input_type": "literal"} for port, value in item["inputs"].items()},
        "_source": "YAML.COMPONENT",
    }
    component = {"componentId": workspace.asset("components", shape.name, shape.version)}
    body |= component if item["type"] == "command" else {"trial": component, **rest_form(item_sweep(item))}
    if "outputs" in item:
        body["outputs"] = {port: _node_output(value) for port, value in item["outputs"].items()}
    if "compute" in item:
        body["computeId"] = f"{workspace.path}/computes/{item['compute'].removeprefix('azureml:')}"
    if "resources" in item:
        body["resources"] = dict(item["resources"])
    if "limits" in item and item["type"] == "command":
        body["limits"] = {"timeout": f"PT{item['limits']['timeout']}S", "job_limits_type": "Command"}
    return body


def item_sweep(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sweep node says beside its trial."""
    names = ("search_space", "sampling_algorithm", "objective", "limits", "early_termination")
    return {name: item[name] for name in names if name in item}


def _node_output(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"uri": value["path"], "mode": "ReadWriteMount", "job_output_type": value["type"]}
    return {"value": value, "type": "literal"}
