"""The platform spec (kfp-kubernetes): what means something on one machine, and what does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from intermodal.errors import Unsupported
from intermodal.spec.document import Node
from intermodal.spec.tasks import parameter_source
from intermodal.spec.types import (
    ConfigEnv,
    ConfigRef,
    ConfigVolume,
    Constant,
    KubernetesSettings,
    Source,
    VolumeMount,
)

_PLACEMENT = frozenset({"nodeSelector", "tolerations", "nodeAffinity", "podAffinity", "imagePullSecret"})
"""Settings that place a pod in a cluster. On one machine there is nothing to choose, so leaving them out keeps the meaning."""

_KNOWN = frozenset(
    {
        "pvcMount", "secretAsVolume", "secretAsEnv", "configMapAsVolume", "configMapAsEnv", "fieldPathAsEnv", "podMetadata",
        "imagePullPolicy", "emptyDirMounts", "activeDeadlineSeconds", "enabledSharedMemory",
    }
)  # fmt: skip

_SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Platform:
    """Per executor label, what its containers get; and the settings that do not apply here."""

    volumes: Mapping[str, tuple[VolumeMount, ...]] = field(default_factory=dict)
    settings: Mapping[str, KubernetesSettings] = field(default_factory=dict)
    workspace: bool = False
    deadline: float | None = None
    not_applied: tuple[str, ...] = ()


def read_platform(document: dict[str, Any]) -> Platform:
    """Read a PlatformSpec given as plain values; empty means none. Raises Unsupported for what would change the meaning."""
    if not document:
        return Platform()
    kubernetes = Node(document, "platform").mapping("platforms").mapping("kubernetes")
    volumes: dict[str, tuple[VolumeMount, ...]] = {}
    settings: dict[str, KubernetesSettings] = {}
    ignored: list[str] = []
    for label, node in kubernetes.mapping("deploymentSpec").mapping("executors").items():
        for key in node.value:
            if key in _PLACEMENT:
                ignored.append(f"{label}: {key} places a pod in a cluster; not applied on one machine")
            elif key not in _KNOWN:
                raise Unsupported(f"{label}: the Kubernetes setting {key!r} is not supported")
        volumes[label] = tuple(_volume(child) for child in node.nodes("pvcMount"))
        settings[label] = _settings(node)
    config = kubernetes.mapping("pipelineConfig")
    known = ("workspace", "activeDeadlineSeconds")
    ignored += [f"pipeline: {key} is for a cluster; not applied" for key in config.value if key not in known]
    deadline = config.number("activeDeadlineSeconds", 0.0) or None
    return Platform(volumes, settings, "workspace" in config.value, deadline, tuple(ignored))


def _settings(node: Node) -> KubernetesSettings:
    metadata = node.mapping("podMetadata")
    deadline = node.number("activeDeadlineSeconds", 0)
    memory = node.mapping("enabledSharedMemory").text("size", "")
    scratch = []
    for item in node.nodes("emptyDirMounts"):
        path, size = item.text("mountPath"), item.text("sizeLimit", "")
        if path.rstrip("/") == _SHARED_MEMORY and size:  # how pipelines ask for it: the SDK has no other way
            memory = size
        else:
            scratch.append(path)
    return KubernetesSettings(
        config_volumes=(*_config_volumes(node, "secret"), *_config_volumes(node, "config map")),
        config_env=(*_config_env(node, "secret"), *_config_env(node, "config map")),
        fields=tuple((item.text("name"), item.text("fieldPath")) for item in node.nodes("fieldPathAsEnv")),
        labels=_pairs(metadata.mapping("labels")),
        annotations=_pairs(metadata.mapping("annotations")),
        empty_dirs=tuple(scratch),
        pull_policy=node.text("imagePullPolicy", ""),
        deadline=deadline or None,
        shared_memory=memory,
    )


def _pairs(node: Node) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((str(key), str(value)) for key, value in node.value.items()))


_Kind = Literal["secret", "config map"]
_PREFIX: Mapping[str, str] = {"secret": "secret", "config map": "configMap"}


def _config_ref(node: Node, kind: _Kind) -> ConfigRef:
    prefix = _PREFIX[kind]
    name: Source
    if f"{prefix}NameParameter" in node.value:
        name = parameter_source(node.mapping(f"{prefix}NameParameter"))
    else:
        name = Constant(node.text(f"{prefix}Name"))
    return ConfigRef(kind, name, bool(node.value.get("optional")))


def _config_volumes(node: Node, kind: _Kind) -> Iterator[ConfigVolume]:
    for item in node.nodes(f"{_PREFIX[kind]}AsVolume"):
        yield ConfigVolume(_config_ref(item, kind), item.text("mountPath"))


def _config_env(node: Node, kind: _Kind) -> Iterator[ConfigEnv]:
    for item in node.nodes(f"{_PREFIX[kind]}AsEnv"):
        reference = _config_ref(item, kind)
        for pair in item.nodes("keyToEnv"):
            yield ConfigEnv(reference, pair.text(f"{_PREFIX[kind]}Key"), pair.text("envVar"))


def _volume(node: Node) -> VolumeMount:
    """Read a claim's mount: the newer `pvcNameParameter` (an InputParameterSpec) wins over the older fields."""
    name: Source
    if node.mapping("pvcNameParameter").value:
        name = parameter_source(node.mapping("pvcNameParameter"))
    elif "constant" in node.value:
        name = Constant(node.value["constant"])
    else:
        name = parameter_source(node)
    return VolumeMount(name, node.text("mountPath"), node.text("subPath", ""))
