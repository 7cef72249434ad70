"""What the record says of a run that goes on: what was asked, finished leaves, attempts without an end; and who may go on."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.database import Database
from intermodal.engine.job import LiveAttempt
from intermodal.engine.layout import StateFolder
from intermodal.engine.options import Options
from intermodal.engine.states import State
from intermodal.errors import BadInput
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from intermodal.spec.types import Pipeline


@dataclass(frozen=True)
class Finished:
    """A leaf that is green in the record."""

    state: State
    outputs: Outputs
    seconds: float


@dataclass(frozen=True)
class Past:
    """What earlier runners of a run did, by the path of the task. Empty for a new run."""

    green: Mapping[str, Finished] = field(default_factory=dict)
    live: Mapping[str, LiveAttempt] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Number of the last attempt."""


def read_past(database: Database, run: str) -> Past:
    """Read the record of a run."""
    green = {}
    for row in database.query(
        "SELECT path, state, outputs, started, ended FROM tasks WHERE run=? AND fingerprint IS NOT NULL", (run,)
    ):
        state = State(row["state"])
        if state.green:
            outputs = Outputs.from_json(json.loads(row["outputs"]))
            green[row["path"]] = Finished(state, outputs, (row["ended"] or 0) - (row["started"] or 0))
    live: dict[str, LiveAttempt] = {}
    attempts: dict[str, int] = {}
    rows = database.query("SELECT path, number, started, ended FROM attempts WHERE run=? ORDER BY number", (run,))
    for row in rows:
        attempts[row["path"]] = row["number"]
        live.pop(row["path"], None)
        if row["ended"] is None:
            live[row["path"]] = LiveAttempt(row["number"], row["started"])
    return Past(green, live, attempts)


def tidy_finished(state: StateFolder, run: str, past: Past) -> None:
    """Remove what a killed runner left of attempts whose outputs are in the store."""
    for path in past.green:
        for number in range(1, past.attempts.get(path, 0) + 1):
            shutil.rmtree(state.attempt(run, path, number) / "outputs", ignore_errors=True)


@dataclass(frozen=True)
class KeptRequest:
    """What a run was asked to do, as its record keeps it."""

    pipeline: Pipeline
    inputs: Inputs
    names: Mapping[str, str]
    """The job's placeholders, e.g. `pipeline_job_name`."""
    options: Options
    settings: Settings
    project: Path | None


def read_request(database: Database, state: StateFolder, run: str) -> KeptRequest:
    """Read what a run was asked to do. Raises BadInput if an older version made it, which kept too little."""
    row = database.query("SELECT request FROM runs WHERE id=?", (run,))[0]
    path = state.run(run) / "pipeline.yaml"
    if row["request"] is None or not path.is_file():
        raise BadInput(f"run {run}: its record does not hold what to run")
    document = json.loads(row["request"])
    artifacts = {
        name: tuple(Artifact.from_json(item) for item in items) for name, items in document["artifacts"].items()
    }
    return KeptRequest(
        load_pipeline(path),
        Inputs(document["parameters"], artifacts),
        document["names"],
        Options.from_json(document["options"]),
        Settings.model_validate(document["settings"]),
        Path(document["project"]) if document.get("project") else None,
    )


class StateUse:
    """Held, shared, by whatever may add to the store of a state folder; `gc` takes it alone."""

    def __init__(self, root: Path, *, alone: bool = False) -> None:
        """Raises BadInput if it is wanted alone and others use the folder; waits for a `gc` that is going on."""
        self._descriptor = os.open(root / "use.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        kind = fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH
        try:
            fcntl.flock(self._descriptor, kind)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise BadInput(
                f"{root}: runs are going on here", hint="wait for them; `intermodal runs` lists them"
            ) from error

    def release(self) -> None:
        os.close(self._descriptor)


class RunLock:
    """Held by the one runner of a run for as long as it lives; the kernel lets go of it when the process dies."""

    def __init__(self, folder: Path, run: str) -> None:
        """Take the lock. Raises BadInput if another process holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise BadInput(
                f"run {run} is going on in process {holder or '(unknown)'}", hint="wait for it, or stop it with Ctrl-C"
            ) from error
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._descriptor)


def is_held(folder: Path) -> bool:
    """Whether a living process runs the run of this folder."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
