"""The platform spec (kfp-kubernetes): what means something on one machine, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from intermodal.errors import Unsupported
from intermodal.spec.document import Node
from intermodal.spec.types import Constant, FromInput, Source, VolumeMount

_PLACEMENT = frozenset({"nodeSelector", "tolerations", "nodeAffinity", "podAffinity", "imagePullSecret"})
"""Settings that place a pod in a cluster. On one machine there is nothing to choose, so leaving them out keeps the meaning."""


@dataclass(frozen=True)
class Platform:
    """Per executor label: the volumes it mounts; and the settings that do not apply here."""

    volumes: Mapping[str, tuple[VolumeMount, ...]] = field(default_factory=dict)
    not_applied: tuple[str, ...] = ()


def read_platform(document: dict[str, Any]) -> Platform:
    """Read a PlatformSpec given as plain values; empty means none. Raises Unsupported for what would change the meaning."""
    if not document:
        return Platform()
    kubernetes = Node(document, "platform").mapping("platforms").mapping("kubernetes")
    if kubernetes.value.get("pipelineConfig"):
        raise Unsupported(
            "platform: pipelineConfig (workspace, time to live) is not supported yet",
            hint="mount a claim with kfp-kubernetes instead",
        )
    volumes: dict[str, tuple[VolumeMount, ...]] = {}
    ignored: list[str] = []
    for label, node in kubernetes.mapping("deploymentSpec").mapping("executors").items():
        for key in node.value:
            if key in _PLACEMENT:
                ignored.append(f"{label}: {key} places a pod in a cluster; not applied on one machine")
            elif key != "pvcMount":
                raise Unsupported(f"{label}: the Kubernetes setting {key!r} is not supported yet")
        volumes[label] = tuple(_volume(child) for child in node.nodes("pvcMount"))
    return Platform(volumes, tuple(ignored))


def _volume(node: Node) -> VolumeMount:
    return VolumeMount(_claim_name(node), node.text("mountPath"), node.text("subPath", ""))


def _claim_name(node: Node) -> Source:
    """Read a claim's name: the newer `pvcNameParameter` (an InputParameterSpec) wins over the older fields."""
    parameter = node.mapping("pvcNameParameter")
    if "runtimeValue" in parameter.value:
        return Constant(parameter.mapping("runtimeValue").value.get("constant"))
    if "componentInputParameter" in parameter.value:
        return FromInput(parameter.text("componentInputParameter"))
    if "constant" in node.value:
        return Constant(node.value["constant"])
    if "componentInputParameter" in node.value:
        return FromInput(node.text("componentInputParameter"))
    raise Unsupported(
        f"{node.path}: a claim that another task creates is not supported yet",
        hint="name the claim as a constant or a parameter",
    )
