"""One run from arguments to result: what the command `run` and the Python API share."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from intermodal.engine.arguments import read_arguments
from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.backend import Backend
from intermodal.engine.database import Database, RecordProblem
from intermodal.engine.execution import Executor
from intermodal.engine.facts import Checkout, hardware
from intermodal.engine.faults import Faults
from intermodal.engine.fit import check_fit
from intermodal.engine.layout import StateFolder
from intermodal.engine.lookup import damage_of
from intermodal.engine.naming import safe_name
from intermodal.engine.options import Options
from intermodal.engine.pending import defaults
from intermodal.engine.planner import Planner, job_names
from intermodal.engine.python import PythonSteps
from intermodal.engine.record import Observer, Record
from intermodal.engine.resources import Demand, Ledger, machine
from intermodal.engine.resume import Past, RunLock, StateUse, read_past, read_request, sweep, tidy_past
from intermodal.engine.runner import Runner, Services
from intermodal.engine.states import State
from intermodal.engine.store import Store, write_synced
from intermodal.engine.temporary import discard
from intermodal.engine.tracked import Tracker
from intermodal.errors import BadInput
from intermodal.settings import Settings
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.spec.types import Pipeline


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
    project: Path | None = None
    """The project's folder, whose settings hold."""


class Session:
    """An opened state folder and a backend, ready for one run. Close it (`with`)."""

    def __init__(
        self,
        state: Path,
        backend: Backend,
        settings: Settings,
        options: Options,
        total: Demand | None = None,
        tracker: Tracker | None = None,
    ) -> None:
        """`state` is made if absent; nothing is asked of the backend yet. `total` is what steps may take: this machine, if None.

        `tracker` tells of the MLflow runs of steps that log to them; None if runs are not tracked.
        """
        self.state = StateFolder.at(state)
        self.backend = backend
        self._settings = settings
        self._options = options
        self._total = total or machine()
        self._tracker = tracker
        self._faults = Faults.of(os.environ)
        self._database = Database(self.state.database)
        self._store = Store(self.state.store, self._faults)
        self._images: Mapping[str, str] = {}
        self._lock: RunLock | None = None
        self._use = StateUse(self.state.root)
        sweep(self.state, self._store, self._database)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.close()
        self._database.close()
        if self._lock is not None:
            self._lock.release()
        self._use.release()

    def runner(self, request: Request, observer: Observer) -> Runner:
        """Check everything that can be known before a task starts, record the run, and return its runner.

        Raises BadInput (arguments), EnvironmentProblem (engine, images, disk).
        """
        pipeline = request.pipeline
        self._options.check(pipeline)
        inputs = read_arguments(pipeline, request.arguments, self._ingest, parse=request.parse)
        checkout = Checkout(request.project)
        self.backend.prepare(self.state.root)
        run_id = new_run_id(pipeline.name)
        names = job_names(run_id, pipeline, self.state)
        runner = self._assemble(pipeline, inputs, run_id, names, observer, Past())
        self._lock = RunLock(self.state.run(run_id), run_id)
        try:
            write_synced(self.state.run(run_id) / "pipeline.yaml", pipeline.ir)
            self._add_run(run_id, request, inputs, names, checkout)
        except BaseException:
            discard(self.state.run(run_id))
            raise
        self._faults.reach("run:recorded")
        return runner

    def _add_run(
        self, run_id: str, request: Request, inputs: Inputs, names: Mapping[str, str], checkout: Checkout
    ) -> None:
        pipeline = request.pipeline
        configuration = canonical_json(dict(request.configuration) or _recorded(inputs))
        resumable = {
            "names": dict(names),
            "parameters": dict(inputs.parameters),
            "artifacts": {name: [item.as_json() for item in items] for name, items in inputs.artifacts.items()},
            "options": self._options.as_json(),
            "settings": self._settings.model_dump(),
            "project": str(request.project) if request.project else None,
            "facts": {
                "git": checkout.facts(),
                "hardware": hardware(),
                "defaults": defaults(pipeline.root),
                "images": dict(self._images),
            },
        }
        self._database.add_run(
            run_id,
            pipeline.name,
            pipeline.digest,
            self.backend.name,
            canonical_json(_recorded(inputs)),
            (configuration, sha256_text(configuration)),
            canonical_json(resumable),
        )

    def resume(self, run_id: str, observer: Observer) -> Runner:
        """Return a runner that goes on with a run of the record: green tasks stay, live attempts are adopted, all else runs.

        A green task that came after one that runs again (an exit task after a failure) runs again too. The run's own pipeline,
        options and settings hold; images are looked up anew; the time of `--timeout` begins anew. Raises BadInput if the run is
        going on or cannot be resumed, EnvironmentProblem as `runner` does.
        """
        self._lock = RunLock(self.state.run(run_id), run_id)
        kept = read_request(self._database, self.state, run_id)
        self._options, self._settings = kept.options, kept.settings
        self.backend.prepare(self.state.root)
        damage = damage_of(Outputs(artifacts=kept.inputs.artifacts), self._store)
        if damage is not None:
            raise BadInput(f"run {run_id}: argument {damage}", hint="run the pipeline anew")
        past = read_past(self._database, run_id)
        runner = self._assemble(kept.pipeline, kept.inputs, run_id, kept.names, observer, past)
        self._database.reopen_run(run_id, past.turn)
        self._faults.reach("run:reopened")
        tidy_past(self.state, run_id, past)
        return runner

    def notes(self, pipeline: Pipeline) -> list[str]:
        """Return what whoever starts the pipeline should hear first, one line each: what is not applied, relaxed, not isolated."""
        relaxed = self._settings.notes(pipeline.container_components)
        return [*pipeline.not_applied, *relaxed, *self.backend.capabilities.notes]

    def _assemble(
        self, pipeline: Pipeline, inputs: Inputs, run_id: str, names: Mapping[str, str], observer: Observer, past: Past
    ) -> Runner:
        """Check the pipeline against this machine and put the runner together."""
        total = self._total if self.backend.capabilities.gpu else replace(self._total, gpus=0)
        ledger = Ledger(total, self._options.slots)
        check_fit(pipeline, inputs, ledger)
        state, backend, options = self.state, self.backend, self._options
        python = PythonSteps(state.root, backend)
        planner = Planner(pipeline, run_id, names, backend, python, state, self._settings, ledger, options)
        self._images = planner.resolve_images(pipeline)
        record = Record(run_id, self._database, observer, past.turn, past.began)
        executor = Executor(backend, self._store, state, record, python, self._faults, options.grace, self._tracker)
        services = Services(
            backend, state, self._store, self._database, record, planner, executor, ledger, self._faults
        )
        return Runner(pipeline, inputs, run_id, services, options, past)

    def _ingest(self, path: Path) -> str:
        """Copy a user's file or folder into the store (nothing if its content is there) and return its digest."""
        return self._store.publish(path, file_hash=self._database.file_hash)

    def execute(self, runner: Runner) -> Result:
        """Run to the end; link and record the outputs. What cannot be recorded has not ended: `resume` goes on with it."""
        folder = self.state.run(runner.run_id)
        files: dict[str, Path] = {}
        try:
            state, outputs = runner.run()
        except RecordProblem:
            raise
        except BaseException:
            self._database.end_run(runner.run_id, State.FAILED.value, Outputs())
            raise
        try:
            files = link_outputs(folder / "outputs", self._store, outputs)
        except OSError:
            if state.green:
                raise
        self._faults.reach("run:outputs")
        self._database.end_run(runner.run_id, state.value, outputs)
        self._faults.reach("run:ended")
        return Result(runner.run_id, state, folder, outputs, files)


def link_outputs(folder: Path, store: Store, outputs: Outputs) -> dict[str, Path]:
    """Write a pipeline's output parameters, and a link into the store for each output artifact; what was there goes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "parameters.json").write_text(
        json.dumps(dict(outputs.parameters), indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    files: dict[str, Path] = {}
    for name, items in outputs.artifacts.items():
        for index, item in enumerate(items):
            if item.digest:
                link = folder / link_name(name, items, index)
                link.symlink_to(os.path.relpath(store.path(item.digest), folder))
                files[name if len(items) == 1 else f"{name}-{index}"] = link
    return files


def _recorded(inputs: Inputs) -> dict[str, Any]:
    artifacts = {name: [f"sha256:{item.digest}" for item in items] for name, items in inputs.artifacts.items()}
    return {**inputs.parameters, **artifacts}


def new_run_id(name: str) -> str:
    """Return a readable, unique id: name, UTC time, four random hex digits."""
    return f"{safe_name(name)}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def link_name(name: str, items: Sequence[Artifact], index: int) -> str:
    """Return what an output artifact of the pipeline is called in the run's folder, e.g. `report.html`."""
    suffix = {"system.HTML": ".html", "system.Markdown": ".md"}.get(items[index].type.schema_title, "")
    return safe_name(name if len(items) == 1 else f"{name}-{index}") + suffix
