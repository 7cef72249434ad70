"""The launcher's command: what a node of a compiled pipeline runs. Exit 0 unless its task failed and nothing waits for it."""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from intermodal.backends.azureml.launcher.known import Known, Meta, Run
from intermodal.backends.azureml.launcher.ports import MARKER, Inputs, Outputs
from intermodal.backends.azureml.launcher.service import job_created, read_secret, tag_run
from intermodal.backends.azureml.launcher.step import Execute, Step, execute, say
from intermodal.backends.azureml.values import decode
from intermodal.engine.artifacts import Artifact
from intermodal.engine.artifacts import Inputs as Arguments
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.fields import field_value
from intermodal.engine.resolve import bind, task_names
from intermodal.engine.states import State
from intermodal.errors import BadInput, IntermodalError
from intermodal.spec.load import build_pipeline
from intermodal.spec.types import Container

META_FILE = "meta.json"
_LONGEST_TAG = 256
TRIAL = "INTERMODAL_TRIAL"


def main(argv: Sequence[str] | None = None) -> int:
    """Decide about the node's leaf, run it if it runs, and write its meta."""
    args = parser().parse_args(argv)
    return Launcher(unpack(args.wiring), args).run()


def unpack(wiring: str) -> Any:
    """Return a wiring from its packed text."""
    return json.loads(gzip.decompress(base64.urlsafe_b64decode(wiring)))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="launch.py", description=__doc__)
    made.add_argument("--wiring", required=True, help="what decides about the leaf, packed")
    made.add_argument("--meta", required=True, type=Path, help="folder for meta.json")
    for name in ("before", "artifact", "parameter", "output", "volume", "try"):
        made.add_argument(f"--{name}", action="append", default=[])
    return made


class Launcher:
    """One node. `wiring` is made by `wiring.py`."""

    def __init__(self, wiring: Mapping[str, Any], args: argparse.Namespace, execute: Execute = execute) -> None:
        self._execute = execute
        self._wiring = wiring
        self._args = args
        self._path: str = wiring["path"]
        self._pipeline = build_pipeline(wiring["spec"], wiring.get("platform") or {})

    def run(self) -> int:
        if not self._path:
            return self._verdict()
        ports = dict(item.split("=", 1) for item in self._args.output)
        named = {self._wiring["outputs"][port]: folder for port, folder in ports.items()}
        try:
            known = self._known()
            decision = known.decide(self._path)
        except IntermodalError as error:
            decision = Meta(
                self._path, State.FAILED, failure=Failure(FailureClass.USER_CODE, error.message), decided=self._path
            )
        if isinstance(decision, Run):
            lists = frozenset(name for name, item in decision.component.output_artifacts.items() if item.is_list)
            outputs = Outputs(self._path, named, lists)
            meta = self._step(decision, outputs)
        else:
            outputs, meta = Outputs(self._path, named, frozenset()), decision
        outputs.mark()
        return self._finish(meta)

    def _finish(self, meta: Meta) -> int:
        _write(self._args.meta, meta.as_json())
        reason = f": {meta.failure.message if meta.failure else meta.reason}".rstrip(": ")
        say(f"task {meta.path or self._wiring['pipeline']}: {meta.state.value}{reason}")
        tags = {"kfp.task": meta.path, "kfp.state": meta.state.value}
        if meta.failure is not None:  # the meta of a failed node may not be kept
            code = "" if meta.failure.exit_code is None else str(meta.failure.exit_code)
            tags["kfp.failure"] = f"{meta.failure.kind.value}|{code}|{meta.failure.message}"[:_LONGEST_TAG]
        tag_run(tags)
        return 1 if meta.state is State.FAILED and not self._wiring["soft"] else 0

    # What is known

    def _known(self) -> Known:
        metas = {meta.path: meta for meta in map(_read, self._args.before)}
        given: dict[str, Any] = {}
        kinds = self._wiring.get("parameters", [])
        for (name, kind), text in zip(kinds, self._args.parameter):
            value = decode(text, kind)
            if value is not None:
                given[name] = value
        imported = {key: _artifact(item) for key, item in self._wiring["imported"].items()}
        arguments = {key[1:]: (item,) for key, item in imported.items() if key.startswith(":")}
        root = Arguments(given, arguments)
        return Known(
            self._pipeline,
            bind(self._pipeline.root, root, f"pipeline {self._wiring['pipeline']}", inner=True),
            metas,
            {key.partition(":")[0]: item for key, item in imported.items() if not key.startswith(":")},
            self._wiring["bounds"],
            self._names,
            self._wiring["success"],
        )

    @cached_property
    def _names(self) -> dict[str, str]:
        run = os.environ.get("AZUREML_ROOT_RUN_ID", "")
        names = {
            "pipeline_job_name": self._wiring["pipeline"],
            "pipeline_job_resource_name": run,
            "pipeline_job_uuid": run,
            "pipeline_root": f"azureml://runs/{run}",
        }
        if "_time_utc" in json.dumps(self._wiring["spec"]):
            try:
                names |= dict.fromkeys(
                    ("pipeline_job_create_time_utc", "pipeline_job_schedule_time_utc"), job_created()
                )
            except (OSError, ValueError, KeyError) as error:
                raise BadInput(f"{self._path}: the time of the job's creation cannot be read: {error}") from error
        return names

    # The step

    def _step(self, decision: Run, outputs: Outputs) -> Meta:
        container = decision.component.implementation
        if not isinstance(container, Container):
            raise AssertionError(f"{self._path}: is no container")
        names = task_names(self._names, decision.task.name, self._path)
        try:
            env = {**self._extras(container), **_trial(vars(self._args)["try"])}
            ports = {(key[0], key[1]): folder for key, folder in zip(self._wiring["artifacts"], self._args.artifact)}
            inputs = Inputs(ports)
            given = Step(decision, container, inputs, outputs, names, env, self._execute).run()
        except AttemptFailed as error:
            return Meta(self._path, State.FAILED, failure=error.failure)
        except IntermodalError as error:
            return Meta(self._path, State.FAILED, failure=Failure(FailureClass.USER_CODE, error.message))
        return Meta(self._path, State.SUCCEEDED, given, digests=outputs.digests)

    def _extras(self, container: Container) -> dict[str, str]:
        """Provide volumes, secrets and config maps; return the variables that hold some of them. Raises BadInput."""
        for volume, folder in zip(container.volumes, self._args.volume):
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, MARKER).touch()
            _place(Path(volume.path), Path(folder))
        values = {("config map", name): dict(keys) for name, keys in self._wiring["config_maps"].items()}
        for secret in self._wiring["secrets"]:
            keys = secret["keys"].items()
            try:
                values["secret", secret["name"]] = {
                    key: read_secret(item["vault"], item["name"], item["version"]) for key, item in keys
                }
            except (OSError, ValueError, KeyError) as error:
                raise BadInput(f"{self._path}: secret {secret['name']!r} cannot be read: {error}") from error
        settings = container.kubernetes
        for mount in settings.config_volumes:
            name = str(getattr(mount.config.name, "value", ""))
            _fill(Path(mount.path), values.get((mount.config.kind, name), {}))
        for scratch in settings.empty_dirs:
            Path(scratch).mkdir(parents=True, exist_ok=True)
        env = {}
        for item in settings.config_env:
            found = values.get((item.config.kind, str(getattr(item.config.name, "value", ""))), {})
            if item.key in found:
                env[item.variable] = found[item.key]
            elif not item.config.optional:
                raise BadInput(f"{self._path}: {item.config.kind} has no key {item.key!r}")
        run = os.environ.get("AZUREML_RUN_ID", "")
        names = {"metadata.name": run, "metadata.namespace": "default", "metadata.uid": run}
        return env | {name: field_value(path, settings, names, self._path) for name, path in settings.fields}

    # The verdict

    def _verdict(self) -> int:
        """Write what the whole pipeline gave; fail if a task failed that did not end the job itself."""
        result = self._known().outcome()
        document = {"state": result.state.value, **result.outputs.as_json()}
        failure = Failure(FailureClass.USER_CODE, result.error) if result.state is State.FAILED else None
        _write(self._args.meta, Meta("", result.state, result.outputs, failure).as_json())
        Path(self._args.meta, "outputs.json").write_text(json.dumps(document, sort_keys=True), encoding="utf-8")
        say(f"pipeline {self._wiring['pipeline']}: {result.state.value}")
        tag_run({"kfp.state": result.state.value})
        return 1 if result.state is State.FAILED else 0


def _trial(assignments: Sequence[str]) -> dict[str, str]:
    """Return the variable that tells a search step which trial of a sweep it is; none where no sweep set anything."""
    values = {name: json.loads(value) for name, value in (item.split("=", 1) for item in assignments)}
    return {TRIAL: json.dumps(values, sort_keys=True)} if values else {}


def _read(folder: str) -> Meta:
    return Meta.from_json(json.loads(Path(folder, META_FILE).read_text(encoding="utf-8")))


def _write(folder: Path, document: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    temporary = folder / f".{META_FILE}"
    temporary.write_text(json.dumps(document, sort_keys=True, ensure_ascii=False), encoding="utf-8")
    temporary.replace(folder / META_FILE)


def _artifact(document: Mapping[str, Any]) -> Artifact:
    return Artifact.from_json(document)


def _place(target: Path, folder: Path) -> None:
    """Make a mounted folder appear where the pipeline says. Raises BadInput."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
            target.rmdir()
        target.symlink_to(folder)
    except OSError as error:
        raise BadInput(f"a volume cannot be put at {target}: {error.strerror}") from error


def _fill(target: Path, values: Mapping[str, str]) -> None:
    """Write a file for each key. Raises BadInput."""
    try:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True, mode=0o700)
        for key, value in values.items():
            descriptor = os.open(target / key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(value)
    except OSError as error:
        raise BadInput(f"a folder cannot be made at {target}: {error.strerror}") from error
