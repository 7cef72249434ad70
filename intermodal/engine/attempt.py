"""One attempt of one container task: its folder, its command, its end, its outputs."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from intermodal.bounded import parse_json
from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.backend import Backend, Image, Launch, Limits, Mount, Network, Relaxation
from intermodal.engine.environment import expand_variables
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.layout import StateFolder, safe_name
from intermodal.engine.placeholders import Context, View, resolve, resolve_arguments
from intermodal.engine.platform import Extras, Provided
from intermodal.engine.store import BadContent, Store
from intermodal.engine.values import check_output, decode_output, invalid, shorten
from intermodal.engine.written import check_text, read_regular
from intermodal.spec.python_step import read_prelude
from intermodal.spec.types import Component, Container, OutputArtifact, Value

METADATA_ONLY = ("system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics")
"""Types whose content is their metadata: a step that writes none but reports metadata has made the artifact."""

_TEXT_TYPES = ("system.HTML", "system.Markdown")
_EXECUTOR_OUTPUT = "executor_output.json"
_LONGEST_WORD = 32 * 4096
"""Of one argument or variable, in bytes with its final zero: MAX_ARG_STRLEN of Linux."""
_MAX_EXECUTOR_OUTPUT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """What an attempt needs, decided before it starts."""

    run: str
    path: str
    number: int
    component: Component
    container: Container
    inputs: Inputs
    image: Image
    limits: Limits
    network: Network
    env: Mapping[str, str]
    job: Mapping[str, str]
    volumes: tuple[Mount, ...] = ()
    extras: Extras = field(default_factory=Extras)
    labels: Mapping[str, str] = field(default_factory=dict)
    relax: frozenset[Relaxation] = frozenset()
    deadline: float | None = None
    """Seconds that an attempt may take, None for no limit."""


class Attempt:
    """Prepares, and after the end harvests, one attempt."""

    def __init__(self, plan: Plan, backend: Backend, store: Store, state: StateFolder) -> None:
        self.plan = plan
        self.folder = state.attempt(plan.run, plan.path, plan.number)
        self.log = self.folder / "log.txt"
        self._backend = backend
        self._store = store
        self._root = backend.step_root(self.folder)

    # Before

    def prepare(self, provided: Provided, packages: Sequence[Path] = ()) -> Launch:
        """Make the folders and return the launch, with what the platform spec provides.

        `packages` are folders for PYTHONPATH; the installing that a lightweight component would do is then left out of its
        command. Raises AttemptFailed (disk full).
        """
        with _disk_errors():
            for part in ("outputs/artifacts", "outputs/parameters"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
        plan = self.plan
        mounts, views = self._inputs()
        context = self._context(views)
        command, env = plan.container.command, {**plan.env, **provided.env}
        prelude = read_prelude(command) if packages else None
        if prelude is not None:
            command = prelude.command
            targets = [self._root / "python" / str(number) for number in range(len(packages))]
            mounts.extend(Mount(source, target) for source, target in zip(packages, targets, strict=True))
            env["PYTHONPATH"] = ":".join(map(str, targets))
        declared = [(name, resolve(value, context)) for name, value in plan.container.env]
        self._check_volumes()
        launch = Launch(
            run_id=plan.run,
            task=plan.path,
            attempt=plan.number,
            image=plan.image,
            command=resolve_arguments(command, context),
            args=resolve_arguments(plan.container.args, context),
            env=expand_variables(env, declared),
            mounts=(*mounts, *plan.volumes, *provided.mounts),
            attempt_dir=self.folder,
            log=self.log,
            limits=plan.limits,
            network=plan.network,
            relax=plan.relax,
            labels=plan.labels,
        )
        _check_words(launch)
        return launch

    def _check_volumes(self) -> None:
        """Look again, just before the start, that no other step has put a link where a volume's folder was."""
        for mount in self.plan.volumes:
            if mount.source.resolve() != mount.source:
                message = f"volume at {mount.target}: a step put a link in the place of {mount.source}"
                raise AttemptFailed(Failure(FailureClass.USER_CODE, message))

    def describe(self, launch: Launch) -> dict[str, Any]:
        """Return the launch for the record: all that is needed to look at it or to do it again, and no secret's value."""
        hidden = {name for name, _ in self.plan.extras.secret_env}
        return {
            "image": {"reference": launch.image.reference, "id": launch.image.id, "digest": launch.image.digest},
            "command": list(launch.command),
            "args": list(launch.args),
            "env": {name: None if name in hidden else value for name, value in launch.env.items()},
            "mounts": [[str(item.source), str(item.target), item.read_only] for item in launch.mounts],
            "limits": vars(launch.limits),
            "network": launch.network,
            "relax": sorted(launch.relax),
            "labels": dict(launch.labels),
        }

    def _inputs(self) -> tuple[list[Mount], dict[str, list[View]]]:
        mounts: list[Mount] = []
        views: dict[str, list[View]] = {}
        for name, items in self.plan.inputs.artifacts.items():
            declared = self.plan.component.input_artifacts.get(name)
            views[name] = []
            for index, item in enumerate(items):
                target = self._root / "inputs" / safe_name(name)
                if declared is not None and declared.is_list:
                    target = target / str(index)
                if item.digest:
                    mounts.append(Mount(self._store.path(item.digest), target))
                uri = str(target) if item.digest or not item.uri else item.uri
                views[name].append(_view(item, uri))
        return mounts, views

    def _context(self, views: Mapping[str, list[View]]) -> Context:
        component, outputs = self.plan.component, self._root / "outputs"
        return Context(
            parameters=self.plan.inputs.parameters,
            channels=self.plan.inputs.channels,
            inputs=views,
            outputs={name: self._output_view(name, declared) for name, declared in component.output_artifacts.items()},
            parameter_files={
                name: str(outputs / "parameters" / safe_name(name)) for name in component.output_parameters
            },
            output_file=str(outputs / _EXECUTOR_OUTPUT),
            job=self.plan.job,
        )

    def _output_view(self, name: str, declared: OutputArtifact) -> View:
        path = str(self._output_path(name))
        return View(name, path, path, declared.type.schema_title, declared.type.schema_version)

    def _output_path(self, name: str) -> PurePosixPath:
        return self._root / "outputs" / "artifacts" / safe_name(name)

    # After

    def harvest(self) -> Outputs:
        """Return the outputs of an attempt that exited 0, published in the store.

        Raises AttemptFailed: an output is missing or invalid, or the disk is full.
        """
        with _disk_errors():
            written = self._executor_output()
            parameters = {
                name: self._parameter(name, kind, written)
                for name, kind in self.plan.component.output_parameters.items()
            }
            artifacts = {
                name: self._artifacts(name, declared, written)
                for name, declared in self.plan.component.output_artifacts.items()
            }
        return Outputs(parameters, artifacts)

    def _executor_output(self) -> dict[str, Any]:
        raw = read_regular(self.folder / "outputs", [_EXECUTOR_OUTPUT], _MAX_EXECUTOR_OUTPUT, "executor output")
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
        raw = read_regular(self.folder / "outputs", ["parameters", safe_name(name)], 2**24, place)
        if raw is None:
            raise AttemptFailed(Failure(FailureClass.OUTPUT_MISSING, f"{place} was not written", exit_code=0))
        return decode_output(raw, kind, place)

    def _artifacts(self, name: str, declared: OutputArtifact, written: Mapping[str, Any]) -> tuple[Artifact, ...]:
        reported = self._reported(name, written)
        if declared.is_list:
            return tuple(self._one(name, declared, item) for item in reported)
        return (self._one(name, declared, reported[0] if reported else {}),)

    def _reported(self, name: str, written: Mapping[str, Any]) -> list[dict[str, Any]]:
        entry = written.get("artifacts", {}).get(name, {})
        items = entry.get("artifacts", []) if isinstance(entry, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise invalid(f"executor output: artifacts of {name!r} are not a list of objects")
        return items

    def _one(self, name: str, declared: OutputArtifact, reported: Mapping[str, Any]) -> Artifact:
        given = str(self._output_path(name))
        uri = str(reported.get("custom_path") or reported.get("uri") or given)
        metadata = reported.get("metadata", {})
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
        try:
            digest = self._store.publish(path, link=True)
        except BadContent as error:
            raise invalid(f"output artifact {name!r} {error}") from error
        except PermissionError as error:
            raise invalid(f"output artifact {name!r}: the step left {error.filename} unreadable") from error
        return Artifact(name, declared.type, digest=digest, metadata=metadata)

    def _host_path(self, uri: str, name: str) -> Path:
        """Return the host path of a path that the step reported. Raises AttemptFailed if it is not in its outputs."""
        if "\0" in uri:
            raise invalid(f"output artifact {name!r}: the step says it is at {uri!r}, which is no path")
        try:
            relative = PurePosixPath(os.path.normpath(uri)).relative_to(self._root / "outputs")
        except ValueError as error:
            raise invalid(f"output artifact {name!r}: the step says it is at {uri}, outside of its outputs") from error
        path = self.folder / "outputs"
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


def _check_words(launch: Launch) -> None:
    """Refuse what no process can be given: a NUL character ends an argument, and a long argument has no room."""
    words = {f"argument {shorten(word)}": word for word in (*launch.command, *launch.args)}
    words |= {f"variable {name}": f"{name}={value}" for name, value in launch.env.items()}  # its value may be a secret
    for place, word in words.items():
        if "\0" in word:
            raise AttemptFailed(Failure(FailureClass.USER_CODE, f"{place}: holds a NUL character"))
        if (size := len(word.encode())) >= _LONGEST_WORD:
            message = f"{place}: {size} bytes are too many for a process; pass it as an artifact"
            raise AttemptFailed(Failure(FailureClass.USER_CODE, message))


def _view(item: Artifact, uri: str) -> View:
    return View(item.name, uri, uri, item.type.schema_title, item.type.schema_version, item.metadata)


class _disk_errors:
    """Turns a full disk into the failure class that says so."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _trace: Any) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            place = error.filename or "the state folder"
            raise AttemptFailed(Failure(FailureClass.DISK_FULL, f"no space left on the disk ({place})")) from error
