"""Artifacts and inputs as the engine passes them between tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intermodal.spec.types import ArtifactType, Value


@dataclass(frozen=True)
class Artifact:
    """A published artifact.

    `digest` names its content in the store; it is empty for an artifact that is metadata alone (Metrics need no file) or
    that lives elsewhere (`uri` then says where).
    """

    name: str
    type: ArtifactType
    digest: str = ""
    uri: str = ""
    metadata: Mapping[str, Value] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": [self.type.schema_title, self.type.schema_version],
            "digest": self.digest,
            "uri": self.uri,
            "metadata": dict(self.metadata),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Artifact:
        title, version = document["type"]
        return Artifact(
            name=document["name"],
            type=ArtifactType(title, version),
            digest=document["digest"],
            uri=document["uri"],
            metadata=document["metadata"],
        )

    def identity(self) -> list[Any]:
        """Return what of it counts in a fingerprint: content and metadata, never where it lies."""
        return [self.digest or self.uri, dict(self.metadata)]


@dataclass(frozen=True)
class Inputs:
    """The resolved inputs of one instance of a component.

    `parameters` are declared ones, coerced; an absent optional one is not in it. `channels` are values that the task has
    beyond the declared inputs; only placeholders see them.
    """

    parameters: Mapping[str, Value] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)
    channels: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    """What a task or a DAG gave: an output that nobody made (its branch did not run) is not in it."""

    parameters: Mapping[str, Value] = field(default_factory=dict)
    artifacts: Mapping[str, Sequence[Artifact]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "parameters": dict(self.parameters),
            "artifacts": {name: [artifact.as_json() for artifact in items] for name, items in self.artifacts.items()},
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Outputs:
        return Outputs(
            parameters=document["parameters"],
            artifacts={
                name: tuple(Artifact.from_json(item) for item in items) for name, items in document["artifacts"].items()
            },
        )
