"""From what the user asks for (a pipeline file, arguments, settings) to a compiled job."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.compile import Compiled, compile_pipeline
from intermodal.backends.azureml.pythons import check_pythons
from intermodal.backends.azureml.settings import AzureMLSettings, load_azureml_settings
from intermodal.backends.docker import DockerBackend
from intermodal.engine.arguments import GivenArtifact, read_arguments
from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.errors import BadInput
from intermodal.sources import Source, load_source, read_values
from intermodal.spec.types import Pipeline

IMAGE_LOCK = Path("images/registry.json")
"""Image of the project -> the same in a registry, by digest; `make images-push` writes it."""


@dataclass(frozen=True)
class Wanted:
    """What the arguments of `compile` and `submit` ask for. An artifact's `uri` is an address, or the path of a file or folder."""

    source: Source
    inputs: Inputs
    settings: AzureMLSettings
    configuration: Mapping[str, Any]
    """What the pipeline's own `configure` resolved the values to; empty if it has none."""


def read_wanted(args: argparse.Namespace, environment: Mapping[str, str]) -> Wanted:
    """Read the pipeline, its arguments and the project's settings. Raises BadInput."""
    source = load_source(args.pipeline, args.name)
    values = read_values(args.config, args.arg)
    inputs, configuration = job_inputs(source, values, from_file=args.config is not None)
    return Wanted(source, inputs, load_azureml_settings(source.project, environment), configuration)


def compile_wanted(wanted: Wanted, args: argparse.Namespace, environment: Mapping[str, str]) -> Compiled:
    """Compile it. Raises BadInput and Unsupported.

    Images that the Docker engine of this machine has, if there is one, must have a Python for the launcher.
    """
    compiled = compile_pipeline(
        wanted.source.pipeline,
        wanted.inputs,
        wanted.settings,
        images=read_image_lock(wanted.source.project),
        accept=args.accept,
        secrets=known_secrets(args.state / "secrets", environment),
        success_word=args.success_word,
    )
    with closing(DockerBackend()) as backend:
        check_pythons(compiled, backend)
    return compiled


def compile_request(args: argparse.Namespace, environment: Mapping[str, str]) -> Compiled:
    """Compile what the arguments of `compile` ask for. Raises BadInput and Unsupported."""
    return compile_wanted(read_wanted(args, environment), args, environment)


def job_inputs(source: Source, values: Mapping[str, Any], *, from_file: bool) -> tuple[Inputs, Mapping[str, Any]]:
    """Return the pipeline's inputs, and the configuration if the pipeline has a `configure`.

    An artifact's `uri` is the address or the absolute path that the user gave. Raises BadInput.
    """
    request = source.request(values, "file" if from_file else "text")
    given = {name: _address(source.pipeline, name, value) for name, value in request.arguments.items()}
    inputs = read_arguments(source.pipeline, given, _existing, parse=request.parse)
    artifacts = {name: tuple(map(_named, items)) for name, items in inputs.artifacts.items()}
    return Inputs(inputs.parameters, artifacts), request.configuration


def _address(pipeline: Pipeline, name: str, value: Any) -> Any:
    if name in pipeline.root.input_artifacts and isinstance(value, str) and "://" in value:
        return GivenArtifact(None, value, {})
    return value


def _existing(path: Path) -> str:
    path.stat()
    return str(path)


def _named(artifact: Artifact) -> Artifact:
    return replace(artifact, digest="", uri=artifact.digest) if artifact.digest else artifact


def read_image_lock(project: Path | None) -> dict[str, str]:
    """Return the images of the project by their digests in a registry; empty if none were pushed. Raises BadInput."""
    if project is None or not (project / IMAGE_LOCK).is_file():
        return {}
    try:
        document = json.loads((project / IMAGE_LOCK).read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{project / IMAGE_LOCK}: is not JSON: {error}") from error
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise BadInput(f"{project / IMAGE_LOCK}: expected image names and their digests")
    return dict(document)


def known_secrets(folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Return the values that must never stand in a job: of the local secrets folder, and of Azure's own variables."""
    values = [
        environment.get(name, "")
        for name in ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD")
    ]
    if folder.is_dir():
        values += [
            path.read_text(encoding="utf-8", errors="replace").strip() for path in folder.rglob("*") if path.is_file()
        ]
    return [value for value in values if value]
