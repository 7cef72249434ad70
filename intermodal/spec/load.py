"""From an IR document to a `Pipeline`. Everything that is not understood is refused here, by name; nothing is dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from intermodal.errors import BadInput, Unsupported
from intermodal.spec.document import Node, canonical_json, read_documents, sha256_text
from intermodal.spec.platform import Platform, read_platform
from intermodal.spec.python_step import read_prelude
from intermodal.spec.tasks import read_dag, runtime_source
from intermodal.spec.types import (
    ArtifactType,
    Component,
    Container,
    Implementation,
    Importer,
    InputArtifact,
    InputParameter,
    KubernetesSettings,
    OutputArtifact,
    ParameterType,
    Pipeline,
    Resources,
)
from intermodal.spec.validate import validate


def load_pipeline(path: Path) -> Pipeline:
    """Read the IR file `path`. Raises BadInput (broken document) or Unsupported (a construct that is refused)."""
    spec, platform = read_documents(path)
    try:
        return build_pipeline(spec, platform)
    except (BadInput, Unsupported) as error:
        raise type(error)(f"{path.name}: {error.message}", hint=error.hint) from error


def build_pipeline(spec: dict[str, Any], platform: dict[str, Any]) -> Pipeline:
    """Build the typed pipeline from plain values, validated."""
    document = Node(spec, "pipeline")
    extras = read_platform(platform)
    executors = document.mapping("deploymentSpec").mapping("executors")
    components = {
        name: _component(name, node, executors, extras) for name, node in document.mapping("components").items()
    }
    root = _component("root", document.mapping("root"), executors, extras)
    pipeline = Pipeline(
        name=document.mapping("pipelineInfo").text("name", "pipeline"),
        root=root,
        components=components,
        digest=sha256_text(canonical_json([spec, platform])),
        ir="\n---\n".join(canonical_json(part) for part in (spec, platform) if part) + "\n",
        sdk_version=document.text("sdkVersion", ""),
        workspace=extras.workspace,
        deadline=extras.deadline,
        not_applied=extras.not_applied,
    )
    validate(pipeline)
    return pipeline


def _component(name: str, node: Node, executors: Node, platform: Platform) -> Component:
    inputs, outputs = node.mapping("inputDefinitions"), node.mapping("outputDefinitions")
    implementation: Implementation
    if "dag" in node.value:
        implementation = read_dag(node.mapping("dag"))
    else:
        implementation = _executor(name, node.text("executorLabel"), executors, platform)
    return Component(
        name=name,
        implementation=implementation,
        input_parameters={key: _input_parameter(child) for key, child in inputs.mapping("parameters").items()},
        input_artifacts={key: _input_artifact(child) for key, child in inputs.mapping("artifacts").items()},
        output_parameters={key: _parameter_type(child) for key, child in outputs.mapping("parameters").items()},
        output_artifacts={
            key: OutputArtifact(_artifact_type(child), bool(child.value.get("isArtifactList")))
            for key, child in outputs.mapping("artifacts").items()
        },
    )


_OLD_TYPES = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}


def _parameter_type(node: Node) -> ParameterType:
    written = node.value.get("parameterType") or _OLD_TYPES.get(node.value.get("type", ""), "")
    try:
        return ParameterType(written)
    except ValueError as error:
        raise BadInput(f"{node.path}: unknown parameter type {written!r}") from error


def _input_parameter(node: Node) -> InputParameter:
    return InputParameter(
        type=_parameter_type(node),
        optional=bool(node.value.get("isOptional")) or "defaultValue" in node.value,
        has_default="defaultValue" in node.value,
        default=node.value.get("defaultValue"),
        literals=tuple(node.value.get("literals") or ()),
    )


def _artifact_type(node: Node) -> ArtifactType:
    return _schema(node.mapping("artifactType"))


def _schema(node: Node) -> ArtifactType:
    title = node.text("schemaTitle", "") or node.text("instanceSchema", "") or "system.Artifact"
    return ArtifactType(title, node.text("schemaVersion", "") or "0.0.1")


def _input_artifact(node: Node) -> InputArtifact:
    return InputArtifact(
        _artifact_type(node), bool(node.value.get("isArtifactList")), bool(node.value.get("isOptional"))
    )


def _executor(component: str, label: str, executors: Node, platform: Platform) -> Container | Importer:
    if label not in executors.value:
        raise BadInput(f"component {component}: its executor {label!r} is not in deploymentSpec.executors")
    node = executors.mapping(label)
    if "container" in node.value:
        return _container(node.mapping("container"), component, label, platform)
    if "importer" in node.value:
        importer = node.mapping("importer")
        return Importer(
            uri=runtime_source(importer.mapping("artifactUri")),
            type=_schema(importer.mapping("typeSchema")),
            metadata=importer.mapping("metadata").value,
            reimport=bool(importer.value.get("reimport")),
            to_workspace=bool(importer.value.get("downloadToWorkspace")),
        )
    kind = next(iter(node.value), "nothing")
    raise Unsupported(
        f"component {component}: executor kind {kind!r} is not supported", hint="use a container or an importer"
    )


def _container(node: Node, component: str, label: str, platform: Platform) -> Container:
    command = node.texts("command")
    try:
        prelude = read_prelude(command)
    except Unsupported as error:
        raise Unsupported(f"component {component}: {error.message}", hint=error.hint) from error
    return Container(
        image=node.text("image"),
        command=command,
        prelude=prelude,
        args=node.texts("args"),
        env=tuple((item.text("name"), str(item.value.get("value", ""))) for item in node.nodes("env")),
        resources=_resources(node.mapping("resources")),
        volumes=platform.volumes.get(label, ()),
        kubernetes=platform.settings.get(label, KubernetesSettings()),
    )


def _resources(node: Node) -> Resources:
    """Read requests and limits: the newer string fields win over the older floats (CPUs, gigabytes)."""

    def pick(new: str, old: str, unit: str = "") -> str:
        if node.value.get(new):
            return str(node.value[new])
        number = node.value.get(old)
        return f"{number}{unit}" if number else ""

    accelerator = node.mapping("accelerator")
    return Resources(
        cpu_request=pick("resourceCpuRequest", "cpuRequest"),
        cpu_limit=pick("resourceCpuLimit", "cpuLimit"),
        memory_request=pick("resourceMemoryRequest", "memoryRequest", "G"),
        memory_limit=pick("resourceMemoryLimit", "memoryLimit", "G"),
        accelerator_type=str(accelerator.value.get("resourceType") or accelerator.value.get("type") or ""),
        accelerator_count=str(accelerator.value.get("resourceCount") or accelerator.value.get("count") or ""),
    )
