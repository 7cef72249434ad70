"""What the record says of a run that goes on: what was asked, finished leaves, attempts without an end; and who may go on."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.database import Database
from intermodal.engine.graph import Node, Work
from intermodal.engine.job import Job, LiveAttempt
from intermodal.engine.layout import StateFolder
from intermodal.engine.options import Options
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.engine.temporary import boot_id, discard
from intermodal.errors import BadInput
from intermodal.settings import Settings
from intermodal.spec.load import load_pipeline
from intermodal.spec.types import Pipeline, TriggerStrategy

_TRIES = 4
_UNRECORDED_SECONDS = 60.0
"""How old the folder of a run must be for the run to be in the record, or never to come into it."""
REPLAY_OF = "replay_of"
"""Key in the request of a replay: which task of which run it does again."""


@dataclass(frozen=True)
class Finished:
    """A task that is green in the record, and the turn of the run in which it became so."""

    state: State
    outputs: Outputs
    seconds: float
    turn: int


@dataclass(frozen=True)
class Past:
    """What earlier runners of a run did, by the path of the task. Empty for a new run."""

    turn: int = 1
    """The number of the runner that reads this."""
    green: Mapping[str, Finished] = field(default_factory=dict)
    live: Mapping[str, LiveAttempt] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Number of the last attempt."""
    began: Mapping[str, float] = field(default_factory=dict)
    """When a task began, in seconds since the epoch."""


def read_past(database: Database, run: str) -> Past:
    """Read the record of a run, for the runner that is to go on with it."""
    turn = database.query("SELECT turn FROM runs WHERE id=?", (run,))[0]["turn"] + 1
    green: dict[str, Finished] = {}
    began: dict[str, float] = {}
    for row in database.query("SELECT path, state, outputs, started, ended, turn FROM tasks WHERE run=?", (run,)):
        state = State(row["state"])
        began[row["path"]] = row["started"]
        if state.green:
            outputs = Outputs.from_json(json.loads(row["outputs"]))
            green[row["path"]] = Finished(state, outputs, row["ended"] - row["started"], row["turn"])
    live: dict[str, LiveAttempt] = {}
    attempts: dict[str, int] = {}
    for row in database.query("SELECT * FROM attempts WHERE run=? ORDER BY number", (run,)):
        attempts[row["path"]] = row["number"]
        live.pop(row["path"], None)
        if row["ended"] is None:
            live[row["path"]] = LiveAttempt(
                row["number"], row["started"], row["turn"], row["fingerprint"], row["boot"], row["handle"] is not None
            )
    return Past(turn, green, live, attempts, began)


class Lineage:
    """Which of what earlier runners did still holds: what came after everything that it depends on.

    An exit task that told of a failure is green, but after the failed task ran again its word is old. `turn`s are compared, not
    times: they are in the record, so that the answer is the same if this runner is killed too.
    """

    def __init__(self, past: Past) -> None:
        self._past = past
        self._newest: dict[Node, int] = {}
        """Task -> the last turn in which something in it or before it was done."""

    def finished(self, work: Work) -> Finished | None:
        """Return what the record says of a leaf if that holds."""
        done = self._past.green.get(work.path)
        return done if done is not None and done.turn >= self._before(work) else None

    def again(self, work: Work) -> bool:
        """Whether a leaf that runs whatever became of what is before it was green, but before something of that ran again.

        Such a task (it cleans up, it tells) is run for what it does: its outputs in the cache are no answer.
        """
        done, node = self._past.green.get(work.path), work.node
        while done is not None and node is not None:
            if node.task.strategy is not TriggerStrategy.ALL_SUCCEEDED and self._newest_before(node) > done.turn:
                return True
            node = node.parent.node
        return False

    def live(self, work: Work) -> LiveAttempt | None:
        """Return the attempt of a leaf that has no end in the record."""
        return self._past.live.get(work.path)

    def obstacle(self, job: Job, live: LiveAttempt) -> str:
        """Return why a live attempt cannot be taken for the job's, empty if it can."""
        if live.boot != boot_id():  # what it wrote may never have reached the disk, whatever its exit code says
            return "the machine was started anew since"
        if live.fingerprint != job.identity.fingerprint:
            return "its image or inputs have changed since"
        if live.turn < self._before(job.work):
            return "a task before it ran again"
        return ""

    def did(self, work: Work, turn: int) -> None:
        """Note that a leaf is of this turn."""
        node = work.node
        while node is not None:
            self._newest[node] = max(turn, self._newest.get(node, 0))
            node = node.parent.node

    def ended(self, node: Node) -> None:
        """Note that a task is final: what comes after it comes after everything before it too."""
        self._newest[node] = max(self._newest.get(node, 0), self._newest_before(node))

    def _before(self, work: Work) -> int:
        """Return the last turn in which something that the leaf depends on was done."""
        newest, node = 0, work.node
        while node is not None:
            newest = max(newest, self._newest_before(node))
            node = node.parent.node
        return newest

    def _newest_before(self, node: Node) -> int:
        upstream = (node.parent.nodes[name] for name in node.task.dependencies)
        return max((self._newest.get(other, 0) for other in upstream), default=0)


def tidy_past(state: StateFolder, run: str, past: Past) -> None:
    """Remove what killed runners left of attempts that are over: copies of secrets, and outputs that are in the store."""
    for path, last in past.attempts.items():
        for number in range(1, last + 1):
            folder = state.attempt(run, path, number)
            if path not in past.live or number < last:
                discard(folder / "extras")
            if path in past.green and number == last:
                discard(folder / "outputs")


def sweep(state: StateFolder, store: Store, database: Database) -> None:
    """Remove what killed processes left half-made: temporary folders, and folders of runs that never came into the record."""
    store.temporary.sweep()
    state.temporary.sweep()
    recorded = {row["id"] for row in database.query("SELECT id FROM runs")}
    for folder in state.runs.iterdir() if state.runs.is_dir() else ():
        if folder.name not in recorded and _age(folder) > _UNRECORDED_SECONDS:
            discard(folder)


def _age(path: Path) -> float:
    """Return the seconds since the last change, 0 if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


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
    row = database.query("SELECT request, pipeline_digest FROM runs WHERE id=?", (run,))[0]
    path = state.run(run) / "pipeline.yaml"
    replayed = json.loads(row["request"] or "{}").get(REPLAY_OF)
    if replayed:
        raise BadInput(f"run {run} is a replay", hint=f"intermodal replay {replayed}")
    if row["request"] is None or not path.is_file():
        raise BadInput(f"run {run}: its record does not hold what to run")
    pipeline = load_pipeline(path)
    if pipeline.digest != row["pipeline_digest"]:
        raise BadInput(f"run {run}: {path} is not the pipeline that it ran", hint="run the pipeline anew")
    document = json.loads(row["request"])
    artifacts = {
        name: tuple(Artifact.from_json(item) for item in items) for name, items in document["artifacts"].items()
    }
    return KeptRequest(
        pipeline,
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
        if not self._take():
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise BadInput(
                f"run {run} is going on in process {holder or '(unknown)'}", hint="wait for it, or stop it with Ctrl-C"
            )
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def _take(self) -> bool:
        for _ in range(_TRIES):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:  # a runner, or `is_held` that looks at this very moment
                time.sleep(0.05)
        return False

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


def holder(folder: Path) -> int | None:
    """Return the process that runs the run of this folder, None if none does."""
    if not is_held(folder):
        return None
    text = (folder / "lock").read_text(encoding="ascii", errors="replace").strip()
    return int(text) if text.isdigit() else None
