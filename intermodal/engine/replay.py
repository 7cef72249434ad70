"""One task of the record done again, exactly, whatever the cache holds; and how what it gave differs from what is on record.

A replay is a run of its own in the record, of one task. It never touches the cache: what was found out stays a finding.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.attempt import Attempt, Plan
from intermodal.engine.backend import Backend, Launch, Limits
from intermodal.engine.database import AttemptStart, Database
from intermodal.engine.deadline import Deadline
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.layout import StateFolder
from intermodal.engine.past import PastAttempt
from intermodal.engine.record import Observer
from intermodal.engine.resume import REPLAY_OF, RunLock
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.engine.temporary import boot_id, discard
from intermodal.errors import BadInput
from intermodal.spec.document import canonical_json, sha256_text
from intermodal.spec.load import load_pipeline
from intermodal.spec.types import Component, Container

_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""
PIPELINE = "pipeline.yaml"
_SHOWN_FILES = 8
_REASON = "a replay runs whatever the cache holds"


@dataclass(frozen=True)
class Replayed:
    """What came of a replay. `same`: it ended as on record, with equal outputs."""

    run_id: str
    state: State
    failure: Failure | None
    before: State
    differences: tuple[str, ...]
    """One line each: what is not as on record."""

    @property
    def same(self) -> bool:
        return not self.differences


class Replay:
    """Runs one attempt of the record again. `run` blocks; `stop` may be called from a signal handler."""

    def __init__(
        self, past: PastAttempt, run_id: str, backend: Backend, database: Database, state: StateFolder, store: Store
    ) -> None:
        self._past = past
        self.run_id = run_id
        self._backend = backend
        self._database = database
        self._state = state
        self._store = store
        self._handle: str | None = None
        self._stopped = False

    def stop(self) -> None:
        """Ask the attempt to end; a second time at once."""
        again, self._stopped = self._stopped, True
        if self._handle is not None:
            self._end(self._handle, 0.0 if again else _GRACE)

    def _end(self, handle: str, grace: float) -> None:
        threading.Thread(target=self._backend.stop, args=(handle, grace), daemon=True).start()

    def run(self, observer: Observer) -> Replayed:
        """Run to the end, record it, compare. Raises BadInput, EnvironmentProblem: the image, an input or a secret is gone."""
        past = self._past
        before = self._database.query("SELECT * FROM tasks WHERE run=? AND path=?", (past.run, past.path))[0]
        component = self._component()
        self._backend.prepare(self._state.root)
        past.check(self._backend, code=True)
        lock = RunLock(self._state.run(self.run_id), self.run_id)
        state, outputs, failure = State.FAILED, Outputs(), None
        self._add_run()
        try:
            state, outputs, failure = self._attempt(component, before, observer)
        finally:
            self._database.end_run(self.run_id, state.value, outputs)
            lock.release()
        differences = _differences(before, past, (outputs, failure), self._store)
        return Replayed(self.run_id, state, failure, State(before["state"]), tuple(differences))

    def _component(self) -> Component:
        """Return the declaration of the task's component, which says what it must give."""
        path = self._state.run(self._past.run) / PIPELINE
        if not path.is_file():
            raise BadInput(f"run {self._past.run}: its record does not hold its pipeline")
        return load_pipeline(path).components[self._past.component]

    def _add_run(self) -> None:
        past = self._past
        shutil.copyfile(self._state.run(past.run) / PIPELINE, self._state.run(self.run_id) / PIPELINE)
        row = self._database.query("SELECT * FROM runs WHERE id=?", (past.run,))[0]
        what = canonical_json({"run": past.run, "task": past.path, "attempt": past.number})
        kept = json.loads(row["request"] or "{}")
        request = {
            REPLAY_OF: f"{past.run}/{past.path}",
            **{key: kept[key] for key in ("settings", "project") if key in kept},
        }
        self._database.add_run(
            self.run_id,
            row["pipeline"],
            row["pipeline_digest"],
            self._backend.name,
            what,
            (what, sha256_text(what)),
            canonical_json(request),
        )

    def _attempt(
        self, component: Component, before: sqlite3.Row, observer: Observer
    ) -> tuple[State, Outputs, Failure | None]:
        """Run the attempt and record how it ended."""
        here = self._past.moved(self.run_id, self._state.attempt(self.run_id, self._past.path, 1), self._backend)
        for part in ("artifacts", "parameters"):
            (here.folder / "outputs" / part).mkdir(parents=True)
        began = time.time()
        outputs, failure = None, None
        try:
            with here.provided(self._backend) as provided:
                launch = here.launch(provided)
                self._record_start(here, before, launch, began)
                observer.task(
                    here.path, State.RUNNING, 0.0, None, f"as attempt {self._past.number} of {self._past.run}"
                )
                failure = self._follow(launch, observer)
            if failure is None:
                outputs = self._harvest(component, here)
        except AttemptFailed as error:
            failure = error.failure
        if failure is not None and self._stopped:
            failure = Failure(FailureClass.CANCELLED, "stopped by the user")
        state = State.SUCCEEDED if failure is None else State.CANCELLED if self._stopped else State.FAILED
        given = outputs or Outputs()
        self._record_end(here, state, given, failure)
        observer.task(here.path, state, time.time() - began, failure, "")
        if failure is None:
            discard(here.folder / "outputs")
        return state, given, failure

    def _harvest(self, component: Component, here: PastAttempt) -> Outputs:
        """Return the outputs, held to the same checks as those of any attempt. Raises AttemptFailed."""
        container = component.implementation
        if not isinstance(container, Container):
            raise AssertionError("only a container has attempts")
        plan = Plan(
            run=here.run,
            path=here.path,
            number=here.number,
            component=component,
            container=container,
            inputs=Inputs(),
            image=here.image,
            limits=Limits(),
            network="none",
            env={},
            job={},
        )
        return Attempt(plan, self._backend, self._store, self._state).harvest()

    def _follow(self, launch: Launch, observer: Observer) -> Failure | None:
        backend = self._backend
        self._handle = handle = backend.start(launch)
        self._database.set_handle(self.run_id, launch.task, 1, handle)
        if self._stopped:  # asked to stop while it was starting
            self._end(handle, 0.0)
        deadline = Deadline(self._past.deadline, lambda: backend.stop(handle, _GRACE))
        try:
            end = backend.wait(handle, launch, lambda line: observer.line(launch.task, line))
        finally:
            deadline.cancel()
            backend.remove(handle)
        return deadline.failure(end.failure)

    def _record_start(self, here: PastAttempt, before: sqlite3.Row, launch: Launch, began: float) -> None:
        kept = {name: before[name] for name in ("inputs", "fingerprint", "parts")}
        values = {"state": State.RUNNING.value, "started": began, "reason": _REASON, **kept}
        key = (self.run_id, here.path, 1)
        document = canonical_json(dict(here.document))
        start = AttemptStart(here.image.id, str(launch.log), document, 1, before["fingerprint"], boot_id())
        self._database.start_attempt(key, here.component, values, start)

    def _record_end(self, here: PastAttempt, state: State, outputs: Outputs, failure: Failure | None) -> None:
        self._database.end_attempt(self.run_id, here.path, 1, failure.exit_code if failure else 0, failure)
        values = {
            "state": state.value,
            "outputs": canonical_json(outputs.as_json()),
            "ended": time.time(),
            "failure_class": failure.kind.value if failure else None,
            "failure": failure.message if failure else None,
            "exit_code": failure.exit_code if failure else None,
        }
        self._database.put_task(self.run_id, here.path, here.component, values)


def _differences(
    before: sqlite3.Row, past: PastAttempt, now: tuple[Outputs, Failure | None], store: Store
) -> Iterator[str]:
    """Say, one line each, what did not go as on record."""
    outputs, failure = now
    if failure is not None:
        if State(before["state"]).green:
            yield f"it failed ({failure.kind.value}: {failure.message}); on record it succeeded"
        elif (failure.kind.value, failure.exit_code) != (before["failure_class"], before["exit_code"]):
            yield f"it failed with {failure.kind.value}: {failure.message}; on record with {past.failure}"
        return
    if not State(before["state"]).green:
        yield f"it succeeded; on record it failed with {past.failure}"
        return
    recorded = Outputs.from_json(json.loads(before["outputs"]))
    for name in sorted({*recorded.parameters, *outputs.parameters}):
        old, new = (shown(given.parameters.get(name)) for given in (recorded, outputs))
        if old != new:
            yield f"parameter {name!r}: {new}; on record {old}"
    for name in sorted({*recorded.artifacts, *outputs.artifacts}):
        pair = [list(given.artifacts.get(name, ())) for given in (recorded, outputs)]
        if len(pair[0]) != len(pair[1]):
            yield f"artifact {name!r}: {len(pair[1])} items; on record {len(pair[0])}"
            continue
        for old_item, new_item in zip(*pair, strict=True):
            yield from _artifact_differences(name, old_item, new_item, store)


def _artifact_differences(name: str, old: Artifact, new: Artifact, store: Store) -> Iterator[str]:
    if old.digest != new.digest:
        yield f"artifact {name!r}: {_content_difference(old.digest, new.digest, store)}"
    if old.uri != new.uri:
        yield f"artifact {name!r}: at {new.uri}; on record {old.uri}"
    for key in sorted({*old.metadata, *new.metadata}):
        was, now = shown(old.metadata.get(key)), shown(new.metadata.get(key))
        if was != now:
            yield f"artifact {name!r}: {key} is {now}; on record {was}"


def _content_difference(old: str, new: str, store: Store) -> str:
    try:
        was, now = ({entry[0]: entry for entry in store.manifest(digest).entries} for digest in (old, new))
    except FileNotFoundError:
        return "other content"  # one of them is metadata alone, or gone from the store
    changed = sorted(path for path in {*was, *now} if was.get(path) != now.get(path))
    named = ", ".join(
        f"{path or 'its file'} ({'changed' if path in was and path in now else 'new' if path in now else 'absent'})"
        for path in changed[:_SHOWN_FILES]
    )
    return named + (f" and {len(changed) - _SHOWN_FILES} more files" if len(changed) > _SHOWN_FILES else "")


def shown(value: Any) -> str:
    """Return a value in one short line."""
    text = canonical_json(value)
    return text if len(text) <= 120 else text[:119] + "…"
