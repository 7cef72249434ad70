"""One run from arguments to result: what the command `run` and the Python API share."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.backend import Backend
from intermodal.engine.database import Database
from intermodal.engine.layout import StateFolder, safe_name
from intermodal.engine.resources import Ledger, machine
from intermodal.engine.runner import Observer, Options, Runner
from intermodal.engine.runtime import ensure_runtime
from intermodal.engine.states import State
from intermodal.engine.store import BadContent, Store
from intermodal.engine.values import coerce, parse_argument
from intermodal.errors import BadInput
from intermodal.settings import Settings
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.spec.types import InputParameter, Pipeline


@dataclass(frozen=True)
class Result:
    """A finished run. `files` are the pipeline's output artifacts as paths in the run's folder."""

    run_id: str
    state: State
    folder: Path
    outputs: Outputs
    files: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What to run: the pipeline and its arguments.

    `arguments` are typed values, or text from a command line if `parse`; an artifact argument is the path of a file or folder.
    `configuration` is what the arguments were resolved from, kept in the run record with its hash.
    """

    pipeline: Pipeline
    arguments: Mapping[str, Any]
    parse: bool = False
    configuration: Mapping[str, Any] = field(default_factory=dict)


class Session:
    """An opened state folder and a backend, ready for one run. Close it (`with`)."""

    def __init__(self, state: Path, backend: Backend, settings: Settings, options: Options) -> None:
        """`state` is made if absent; nothing is asked of the backend yet."""
        self.state = StateFolder.at(state)
        self.backend = backend
        self._settings = settings
        self._options = options
        self._database = Database(self.state.database)
        self._store = Store(self.state.store)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()
        self._database.close()

    def runner(self, request: Request, observer: Observer) -> Runner:
        """Check everything that can be known before a task starts, record the run, and return its runner.

        Raises BadInput (arguments), EnvironmentProblem (engine, images, disk).
        """
        pipeline = request.pipeline
        inputs = self._inputs(request)
        self.backend.prepare(self.state.root)
        run_id = _run_id(pipeline.name)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        runner = Runner(
            pipeline,
            inputs,
            run_id=run_id,
            job={
                "pipeline_job_name": pipeline.name,
                "pipeline_job_resource_name": run_id,
                "pipeline_job_uuid": run_id,
                "pipeline_job_create_time_utc": now,
                "pipeline_job_schedule_time_utc": now,
                "pipeline_root": str(self.state.run(run_id)),
            },
            backend=self.backend,
            state=self.state,
            store=self._store,
            database=self._database,
            settings=self._settings,
            ledger=Ledger(machine(), self._options.slots),
            options=self._options,
            observer=observer,
            runtimes=lambda version: ensure_runtime(version, self.state.root),
        )
        runner.resolve_images()
        configuration = canonical_json(dict(request.configuration) or _recorded(inputs))
        self._database.add_run(
            run_id,
            pipeline.name,
            pipeline.digest,
            self.backend.name,
            canonical_json(_recorded(inputs)),
            (configuration, sha256_text(configuration)),
        )
        self.state.run(run_id).mkdir(parents=True, exist_ok=True)
        return runner

    def execute(self, runner: Runner) -> Result:
        """Run to the end; record and link the outputs."""
        state, outputs = State.FAILED, Outputs()
        try:
            state, outputs = runner.run()
        finally:
            self._database.end_run(runner.run_id, state.value, outputs)
        folder = self.state.run(runner.run_id)
        return Result(runner.run_id, state, folder, outputs, self._link(folder / "outputs", outputs))

    def _link(self, folder: Path, outputs: Outputs) -> dict[str, Path]:
        folder.mkdir(exist_ok=True)
        (folder / "parameters.json").write_text(
            json.dumps(dict(outputs.parameters), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        files: dict[str, Path] = {}
        for name, items in outputs.artifacts.items():
            for index, item in enumerate(items):
                if item.digest:
                    label = name if len(items) == 1 else f"{name}-{index}"
                    link = folder / (safe_name(label) + _suffix(item))
                    link.symlink_to(os.path.relpath(self._store.path(item.digest), folder))
                    files[label] = link
        return files

    # Arguments

    def _inputs(self, request: Request) -> Inputs:
        root = request.pipeline.root
        parameters: dict[str, Any] = {}
        artifacts: dict[str, tuple[Artifact, ...]] = {}
        for name, value in request.arguments.items():
            if name in root.input_parameters:
                if value is not None:
                    parameters[name] = _parameter(name, value, root.input_parameters[name], request.parse)
            elif name in root.input_artifacts:
                if value is not None and value != "":
                    declared = root.input_artifacts[name]
                    artifacts[name] = (Artifact(name, declared.type, digest=self._ingest(name, value)),)
            else:
                raise _unknown_argument(name, request.pipeline)
        return Inputs(parameters, artifacts)

    def _ingest(self, name: str, value: Any) -> str:
        """Copy a user's file or folder into the store (nothing if its content is there) and return its digest."""
        path = Path(str(value)).expanduser()
        try:
            return self._store.publish(path, move=False, file_hash=self._database.file_hash)
        except FileNotFoundError as error:
            raise BadInput(
                f"argument {name}: {path} does not exist", hint="give the path of a file or folder"
            ) from error
        except BadContent as error:
            raise BadInput(f"argument {name}: {path} {error}") from error
        except OSError as error:
            raise BadInput(f"argument {name}: {path}: {error.strerror}") from error


def _parameter(name: str, value: Any, declared: InputParameter, parse: bool) -> Any:
    place = f"argument {name}"
    return parse_argument(value, declared, place) if parse else coerce(value, declared.type, place)


def _unknown_argument(name: str, pipeline: Pipeline) -> BadInput:
    import difflib

    known = sorted([*pipeline.root.input_parameters, *pipeline.root.input_artifacts])
    close = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(known) or 'none'}"
    return BadInput(f"pipeline {pipeline.name} has no argument {name!r}", hint=hint)


def _recorded(inputs: Inputs) -> dict[str, Any]:
    artifacts = {name: [f"sha256:{item.digest}" for item in items] for name, items in inputs.artifacts.items()}
    return {**inputs.parameters, **artifacts}


def _run_id(pipeline: str) -> str:
    """Return a readable, unique id: name, UTC time, four random hex digits."""
    return f"{safe_name(pipeline)}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _suffix(item: Artifact) -> str:
    return {"system.HTML": ".html", "system.Markdown": ".md"}.get(item.type.schema_title, "")
