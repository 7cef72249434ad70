"""What a step writes: where, and what of it counts. One code for every place where a step runs.

Source: `launcher_v2.go` of the KFP backend.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.bounded import parse_json
from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.naming import safe_name
from intermodal.engine.placeholders import Context, View
from intermodal.engine.values import check_output, decode_output, invalid
from intermodal.engine.written import check_text, read_regular
from intermodal.spec.document import plain
from intermodal.spec.types import Component, OutputArtifact, Value

METADATA_ONLY = ("system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics")
"""Types whose content is their metadata: a step that writes none but reports metadata has made the artifact."""

Publish = Callable[[str, Path], str]
"""Keeps the content at a path as the output artifact of that name and returns its digest. Raises AttemptFailed."""

_TEXT_TYPES = ("system.HTML", "system.Markdown")
_EXECUTOR_OUTPUT = "executor_output.json"
_MAX_EXECUTOR_OUTPUT = 16 * 1024 * 1024


class Outbox:
    """The folder `outputs` of one attempt: prepared before it, read after it."""

    def __init__(self, component: Component, folder: Path, root: PurePosixPath) -> None:
        """`folder` is the attempt's folder here, `root` the same folder as the step sees it."""
        self._component = component
        self._folder = folder
        self._root = root

    def prepare(self) -> None:
        """Make the folders. Raises AttemptFailed (disk full)."""
        with disk_errors():
            outputs = self._folder / "outputs"
            outputs.mkdir(parents=True, exist_ok=True)
            if self._component.output_artifacts:
                (outputs / "artifacts").mkdir(exist_ok=True)
            if self._component.output_parameters:
                (outputs / "parameters").mkdir(exist_ok=True)

    def context(self, inputs: Inputs, views: Mapping[str, list[View]], job: Mapping[str, str]) -> Context:
        """Return what the step's placeholders refer to; `views` are its input artifacts as it sees them."""
        component, outputs = self._component, self._root / "outputs"
        return Context(
            parameters=inputs.parameters,
            channels=inputs.channels,
            inputs=views,
            outputs={name: self._output_view(name, declared) for name, declared in component.output_artifacts.items()},
            parameter_files={
                name: str(outputs / "parameters" / safe_name(name)) for name in component.output_parameters
            },
            output_file=str(outputs / _EXECUTOR_OUTPUT),
            job=job,
        )

    def _output_view(self, name: str, declared: OutputArtifact) -> View:
        path = str(self._output_path(name))
        return View(name, path, path, declared.type.schema_title, declared.type.schema_version)

    def _output_path(self, name: str) -> PurePosixPath:
        return self._root / "outputs" / "artifacts" / safe_name(name)

    def harvest(self, publish: Publish) -> Outputs:
        """Return the outputs of an attempt that exited 0, published.

        Raises AttemptFailed: an output is missing or invalid, or the disk is full.
        """
        with disk_errors():
            written = self._executor_output()
            parameters = {
                name: self._parameter(name, kind, written) for name, kind in self._component.output_parameters.items()
            }
            artifacts = {
                name: self._artifacts(name, declared, written, publish)
                for name, declared in self._component.output_artifacts.items()
            }
        return Outputs(parameters, artifacts)

    def _executor_output(self) -> dict[str, Any]:
        raw = read_regular(self._folder / "outputs", [_EXECUTOR_OUTPUT], _MAX_EXECUTOR_OUTPUT, "executor output")
        if raw is None:
            return {}
        try:
            document = parse_json(raw)
        except ValueError as error:
            raise invalid(f"executor output: is no JSON document: {error}") from error
        if not isinstance(document, dict):
            raise invalid("executor output: is not a JSON object")
        for key, kind in (("parameterValues", dict), ("artifacts", dict)):
            if not isinstance(document.get(key, {}), kind):
                raise invalid(f"executor output: {key} is not a JSON object")
        return document

    def _parameter(self, name: str, kind: Any, written: Mapping[str, Any]) -> Value:
        """Return an output parameter: ExecutorOutput wins over the parameter's file, as in the KFP launcher."""
        place = f"output {name!r}"
        values = written.get("parameterValues", {})
        if name in values:
            return check_output(values[name], kind, place)
        raw = read_regular(self._folder / "outputs", ["parameters", safe_name(name)], 2**24, place)
        if raw is None:
            raise AttemptFailed(Failure(FailureClass.OUTPUT_MISSING, f"{place} was not written", exit_code=0))
        return decode_output(raw, kind, place)

    def _artifacts(
        self, name: str, declared: OutputArtifact, written: Mapping[str, Any], publish: Publish
    ) -> tuple[Artifact, ...]:
        reported = self._reported(name, written)
        if declared.is_list:
            return tuple(self._one(name, declared, item, publish) for item in reported)
        return (self._one(name, declared, reported[0] if reported else {}, publish),)

    def _reported(self, name: str, written: Mapping[str, Any]) -> list[dict[str, Any]]:
        entry = written.get("artifacts", {}).get(name, {})
        items = entry.get("artifacts", []) if isinstance(entry, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise invalid(f"executor output: artifacts of {name!r} are not a list of objects")
        return items

    def _one(self, name: str, declared: OutputArtifact, reported: Mapping[str, Any], publish: Publish) -> Artifact:
        given = str(self._output_path(name))
        uri = str(reported.get("custom_path") or reported.get("uri") or given)
        metadata = plain(reported.get("metadata", {}))
        if not isinstance(metadata, dict):
            raise invalid(f"executor output: metadata of {name!r} is not an object")
        if "://" in uri:
            return Artifact(name, declared.type, uri=uri, metadata=metadata)
        path = self._host_path(uri, name)
        if not os.path.lexists(path):
            if declared.type.schema_title in METADATA_ONLY and reported:
                return Artifact(name, declared.type, metadata=metadata)
            raise AttemptFailed(
                Failure(FailureClass.OUTPUT_MISSING, f"output artifact {name!r} was not written", exit_code=0)
            )
        self._check_type(name, declared, path)
        return Artifact(name, declared.type, digest=publish(name, path), metadata=metadata)

    def _host_path(self, uri: str, name: str) -> Path:
        """Return the host path of a path that the step reported. Raises AttemptFailed if it is not in its outputs."""
        if "\0" in uri:
            raise invalid(f"output artifact {name!r}: the step says it is at {uri!r}, which is no path")
        try:
            relative = PurePosixPath(os.path.normpath(uri)).relative_to(self._root / "outputs")
        except ValueError as error:
            raise invalid(f"output artifact {name!r}: the step says it is at {uri}, outside of its outputs") from error
        path = self._folder / "outputs"
        for part in relative.parts:
            path = path / part
            if path.is_symlink():
                raise invalid(f"output artifact {name!r}: is a symbolic link")
        return path

    def _check_type(self, name: str, declared: OutputArtifact, path: Path) -> None:
        if declared.type.schema_title not in _TEXT_TYPES:
            return
        if not path.is_file():
            raise invalid(f"output artifact {name!r}: a {declared.type.schema_title} is a file, not a folder")
        check_text(path, f"output artifact {name!r}")


class disk_errors:
    """Turns a full disk into the failure class that says so."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = error.filename or "the state folder"
            raise AttemptFailed(Failure(FailureClass.DISK_FULL, f"no space left on the disk ({place})")) from error
