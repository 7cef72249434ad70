"""Compiles a KFP pipeline to an AzureML pipeline job: `compile_pipeline`, and the folder that `intermodal compile` writes."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intermodal.backends.azureml import bodies, verify
from intermodal.backends.azureml.asset import asset_hash, launcher_files
from intermodal.backends.azureml.flatten import Flat, flatten
from intermodal.backends.azureml.job import job_document
from intermodal.backends.azureml.lower import Lowered, Lowering
from intermodal.backends.azureml.notes import constructs
from intermodal.backends.azureml.report import GAPS, Line, Report
from intermodal.backends.azureml.settings import AzureMLSettings
from intermodal.backends.azureml.sources import External
from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.resolve import bind
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import Container, Pipeline

_SWEEP = (
    "a native sweep: AzureML draws the trials, sampler and pruner of the step count for nothing; its outputs are the best trial's, and "
    "all trials are the sweep's children"
)


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline: files by their path in the job's folder, what they were made of, and the report."""

    lowered: Lowered
    flat: Flat
    settings: AzureMLSettings
    report: Report
    launcher: Mapping[str, str]
    """The code asset: path in it -> content."""
    imported: Mapping[str, Any]
    """Artifacts from outside, `leaf:output` -> artifact; of an argument `leaf` is empty."""
    success_word: str

    @property
    def code_version(self) -> str:
        return asset_hash(dict(self.launcher))[:16]

    @property
    def components(self) -> dict[str, dict[str, Any]]:
        """The components by the path that the job's nodes name."""
        return {f"./components/{file}": shape.document() for file, shape in self.lowered.shapes.items()}

    @property
    def job(self) -> dict[str, Any]:
        return job_document(self.lowered, self.settings)

    def files(self) -> dict[str, str]:
        """Return every file of the job's folder. Equal input gives equal bytes."""
        workspace = bodies.Workspace.of(self.settings)
        components = bodies.component_bodies(self.lowered, workspace, self.code_version)
        found = {
            "job.yml": _yaml(self.job),
            "report.json": self.report.as_json(),
            "report.md": self.report.as_markdown(),
            "bodies/environments.json": _json(bodies.environment_bodies(self.lowered)),
            "bodies/components.json": _json(components),
            "bodies/job.json": _json(bodies.job_body(self.lowered, self.settings, workspace)),
        }
        found |= {f"components/{file}": _yaml(shape.document()) for file, shape in self.lowered.shapes.items()}
        return found | {f"launcher/{name}": content for name, content in self.launcher.items()}


def compile_pipeline(
    pipeline: Pipeline,
    arguments: Inputs,
    settings: AzureMLSettings,
    *,
    images: Mapping[str, str] | None = None,
    accept: Iterable[str] = (),
    secrets: Sequence[str] = (),
    success_word: str = "COMPLETE",
) -> Compiled:
    """Compile a pipeline for its arguments.

    An artifact argument's `uri` is a local path or an address that AzureML mounts. `images` maps an image of the pipeline to the
    one in a registry; `accept` names gaps that the user accepts; `secrets` are values that must not stand in any file.
    Raises BadInput, or Unsupported naming the construct, the task, and what to do instead.
    """
    unknown = sorted(set(accept) - GAPS.keys())
    if unknown:
        raise BadInput(f"--accept {unknown[0]}: no such gap", hint=", ".join(GAPS))
    _check_workspace(pipeline)
    spec, platform = _documents(pipeline)
    bound = bind(pipeline.root, arguments, f"pipeline {pipeline.name}", inner=False)
    flat = flatten(pipeline, arguments, settings.fan_out)
    _check_leaves(flat)
    lines, gaps = constructs(pipeline, flat)
    refused = [gap for gap in gaps if gap.name not in set(accept)]
    if refused:
        raise Unsupported(
            f"{refused[0].task}: {GAPS[refused[0].name]}", hint=f"--accept {refused[0].name} compiles it even so"
        )
    artifacts = {name: items[0] for name, items in arguments.artifacts.items()}
    external = External(flat, artifacts, settings)
    mapped = {**(images or {}), **settings.images}
    lowered = Lowering(pipeline, spec, platform, flat, bound, external, settings, mapped, success_word).run()
    lines += [Line(node.path, "search", "table", _SWEEP) for node in lowered.nodes if node.sweep is not None]
    paths = {node.name: node.path for node in lowered.nodes}
    report = Report(pipeline.name, paths, lines, gaps, _warnings(pipeline, flat, lowered, settings))
    compiled = Compiled(lowered, flat, settings, report, launcher_files(), external.imported(None), success_word)
    verify.check(compiled.job, compiled.components, secrets)
    return compiled


def write(compiled: Compiled, folder: Path) -> None:
    """Write the job's folder, whole or not at all; what an earlier compilation left there is replaced.

    Raises BadInput if the folder holds something else.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "job.yml").is_file():
        raise BadInput(f"{folder}: holds something else than a compiled job", hint="name another folder with -o")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        for name, content in compiled.files().items():
            path = Path(temporary, "new", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        if folder.exists():
            folder.rename(Path(temporary, "old"))
        Path(temporary, "new").rename(folder)


def argument_artifact(name: str, uri: str, pipeline: Pipeline) -> Artifact:
    """Return an artifact argument that lies at `uri`."""
    return Artifact(name, pipeline.root.input_artifacts[name].type, uri=uri)


def _documents(pipeline: Pipeline) -> tuple[dict[str, Any], dict[str, Any]]:
    spec, *rest = (json.loads(part) for part in pipeline.ir.split("\n---\n"))
    return spec, rest[0] if rest else {}


def _check_workspace(pipeline: Pipeline) -> None:
    if pipeline.workspace:
        raise Unsupported(
            f"pipeline {pipeline.name}: has a workspace; AzureML has no folder that the nodes of one job, and only they, share",
            hint="pass artifacts, or mount a claim (kubernetes.mount_pvc), which is a folder of a datastore",
        )


def _check_leaves(flat: Flat) -> None:
    for leaf in flat.leaves.values():
        container = leaf.component.implementation
        if isinstance(container, Container) and not container.command:
            raise Unsupported(
                f"{leaf.path}: its container has no command; AzureML does not use an image's entry point",
                hint="write the entry point as the component's command",
            )


def _warnings(pipeline: Pipeline, flat: Flat, lowered: Lowered, settings: AzureMLSettings) -> list[str]:
    local = sorted({shape.image for shape in lowered.shapes.values() if "@sha256:" not in shape.image})
    found = [f"image {image} has no digest: `make images-push` writes one, and submit needs it" for image in local]
    searched = {re.sub(r"-\d+$", "", leaf.component.label) for leaf in flat.leaves.values()}
    found += [f"sweeps.{name}: no task of this pipeline is one" for name in settings.sweeps if name not in searched]
    return [*found, *pipeline.not_applied]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: Any) -> str:
    import yaml

    dumper: Callable[..., str] = yaml.dump
    loader = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return dumper(value, Dumper=loader, sort_keys=False, allow_unicode=True, width=2**30)
