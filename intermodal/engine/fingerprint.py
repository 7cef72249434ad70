"""The identity of a task. The list in `parts` is the documentation: what is in it makes another task, nothing else does.

Paths never count: a command is resolved with content hashes in their place, so a key is the same on every machine, an
image changed under an old tag is a miss, and an upstream step that wrote the same bytes again leaves downstream cached.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.placeholders import Context, View, resolve_arguments
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.spec.types import Component, Container, InputArtifact, OutputArtifact

SCHEMA = 2

_OF_THE_RUN = re.compile(
    r"\{\{\$\.(pipeline_root|pipeline_task_uuid|pipeline_job_(uuid|resource_name|create_time_utc|schedule_time_utc))\}\}"
)

Parts = Sequence[tuple[str, Any]]
"""What a fingerprint is made of: (name, JSON value), in order."""


@dataclass(frozen=True)
class Identity:
    """A task's fingerprint and the parts it was made of, which `why` and `diff` read."""

    fingerprint: str
    parts: Parts


@dataclass(frozen=True)
class Given:
    """What a task is given beside its inputs: never a value of a secret, never a place on this machine."""

    fields: Sequence[Sequence[str]] = ()
    """(variable, pod field path, value): the value of a label or annotation, empty for a field that names the run."""
    volumes: Sequence[Sequence[str]] = ()
    """(mount path, claim, sub-path)."""
    secrets: Sequence[Sequence[Any]] = ()
    """(secret or config map, mount path or variable, name, key, version)."""
    packages: Sequence[Sequence[str]] = ()
    """(name, version, hash of the wheel) of what is installed into the image for the task."""


def identify(
    component: Component,
    container: Container,
    inputs: Inputs,
    image_digest: str,
    job: Mapping[str, str],
    given: Given | None = None,
) -> Identity:
    """Return the sha256 (hex) of `parts`, and them."""
    found = parts(component, container, inputs, image_digest, job, given or Given())
    return Identity(sha256_text(canonical_json(found)), tuple(found))


def identify_by_key(component: Component, key: str) -> Identity:
    """Return the identity for a cache key that the pipeline's author chose; everything else is ignored, as in KFP."""
    found = ("custom", SCHEMA), ("component", component.name), ("key", key)
    return Identity(sha256_text(canonical_json(["custom", SCHEMA, component.name, key])), found)


def parts(
    component: Component,
    container: Container,
    inputs: Inputs,
    image_digest: str,
    job: Mapping[str, str],
    given: Given,
) -> list[tuple[str, Any]]:
    """Return the parts of the identity, named, in order."""
    context = _symbolic(component, inputs, job)
    return [
        ("schema", SCHEMA),
        ("interface", _interface(component)),
        ("image", image_digest),
        ("packages", [list(item) for item in given.packages]),
        ("command", list(resolve_arguments(container.command, context))),
        ("args", list(resolve_arguments(container.args, context))),
        ("parameters", dict(inputs.parameters)),
        ("artifacts", {name: [item.identity() for item in items] for name, items in inputs.artifacts.items()}),
        ("env", [[name, *resolve_arguments([value], context)] for name, value in container.env]),
        ("fields", [list(item) for item in given.fields]),
        ("volumes", [list(item) for item in given.volumes]),
        ("scratch", sorted(container.kubernetes.empty_dirs)),
        ("secrets", [list(item) for item in given.secrets]),
    ]


def names_the_run(container: Container) -> bool:
    """Whether the task's words hold what differs from run to run (the run's id, its time, its folder): then it is never cached."""
    words = (*container.command, *container.args, *(value for _, value in container.env))
    return any(_OF_THE_RUN.search(word) for word in words)


def _interface(component: Component) -> dict[str, Any]:
    """Return what the component declares. A default is not in it: the value that it gave is among the parameters."""

    def artifacts(declared: Mapping[str, InputArtifact] | Mapping[str, OutputArtifact]) -> dict[str, Any]:
        return {
            name: [item.type.schema_title, item.type.schema_version, item.is_list] for name, item in declared.items()
        }

    return {
        "inputs": {
            "parameters": {name: item.type.value for name, item in component.input_parameters.items()},
            "artifacts": artifacts(component.input_artifacts),
        },
        "outputs": {
            "parameters": {name: kind.value for name, kind in component.output_parameters.items()},
            "artifacts": artifacts(component.output_artifacts),
        },
    }


def _symbolic(component: Component, inputs: Inputs, job: Mapping[str, str]) -> Context:
    """Return a context whose paths are content hashes (inputs) or names (outputs)."""
    return Context(
        parameters=inputs.parameters,
        channels=inputs.channels,
        inputs={name: _views(items) for name, items in inputs.artifacts.items()},
        outputs={
            name: View(name, f"output:{name}", f"output:{name}", output.type.schema_title, output.type.schema_version)
            for name, output in component.output_artifacts.items()
        },
        parameter_files={name: f"output:{name}" for name in component.output_parameters},
        output_file="output:",
        job=job,
    )


def _views(items: Sequence[Artifact]) -> list[View]:
    return [
        View(
            name=item.name,
            uri=f"content:{item.digest or item.uri}",
            path=f"content:{item.digest or item.uri}",
            schema_title=item.type.schema_title,
            schema_version=item.type.schema_version,
            metadata=item.metadata,
        )
        for item in items
    ]
