"""Writes what happens in a run to its record and tells whoever watches."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from intermodal.engine.artifacts import Outputs
from intermodal.engine.database import AttemptStart, Database
from intermodal.engine.failure import Failure
from intermodal.engine.job import Job, inputs_json
from intermodal.engine.states import State
from intermodal.engine.temporary import boot_id
from intermodal.spec.document import canonical_json


class Observer(Protocol):
    """Told what happens in a run; called from the scheduler's thread, `line` from the attempts' threads."""

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None: ...

    def line(self, path: str, line: bytes) -> None: ...


class Record:
    """The record of one run, as its runner writes it."""

    def __init__(
        self,
        run_id: str,
        database: Database,
        observer: Observer,
        turn: int = 1,
        began: Mapping[str, float] | None = None,
    ) -> None:
        """`turn` is the runner's number in the run; `began` is when tasks began in earlier ones (seconds since the epoch)."""
        self._run = run_id
        self._turn = turn
        self._database = database
        self.observer = observer
        self._began: dict[str, float] = dict(began or {})

    def begin(self, path: str, moment: float | None = None) -> None:
        """Remember when a task began: at `moment` (seconds since the epoch), else now unless an earlier turn knew it."""
        if moment is not None:
            self._began[path] = moment
        else:
            self._began.setdefault(path, time.time())

    def group(
        self, path: str, component: str, state: State, outputs: Outputs, failure: Failure | None, reason: str | None
    ) -> None:
        """Record the end of a task that is no single leaf: a skipped one (`reason` says why), a loop, a nested pipeline."""
        self._put(path, component, state, outputs, failure, reason=reason)

    def leaf(
        self,
        job: Job | None,
        path: str,
        component: str,
        state: State,
        outputs: Outputs,
        failure: Failure | None,
        **more: Any,
    ) -> None:
        """Record the end of a leaf; `job` is None if it never came to a plan."""
        if job is not None:
            more.update(identity_values(job))
        self._put(path, component, state, outputs, failure, **more)

    def succeeded(self, job: Job, outputs: Outputs) -> None:
        """Record, in one transaction, that an attempt succeeded: the attempt, the task, and the cache entry."""
        now = time.time()
        values = {
            "state": State.SUCCEEDED.value,
            "turn": self._turn,
            "outputs": canonical_json(outputs.as_json()),
            "ended": now,
        }
        self._database.commit_success(
            (self._run, job.path, job.plan.number),
            job.work.component.name,
            values,
            (job.identity.fingerprint, outputs, now - job.started),
        )

    def announce(self, path: str, state: State, seconds: float, failure: Failure | None = None, note: str = "") -> None:
        self.observer.task(path, state, seconds, failure, note)

    def _put(
        self, path: str, component: str, state: State, outputs: Outputs, failure: Failure | None, **more: Any
    ) -> None:
        now = time.time()
        started = self._began.get(path, now)
        values = {
            "state": state.value,
            "turn": self._turn,
            "outputs": canonical_json(outputs.as_json()),
            "started": started,
            "ended": now,
            "failure_class": failure.kind.value if failure else None,
            "failure": failure.message if failure else None,
            "exit_code": failure.exit_code if failure else None,
            **more,
        }
        self._database.put_task(self._run, path, component, values)
        note = "cached" if more.get("cached_from") else ""
        self.announce(path, state, now - started, failure, note)

    def attempt_started(self, job: Job, launch: dict[str, Any], log: str) -> None:
        """Record that an attempt is about to start, and that its task runs."""
        values = {
            "state": State.RUNNING.value,
            "turn": self._turn,
            "started": job.started,
            "ended": None,
            "cached_from": None,
            "inputs": inputs_json(job.work),
            **identity_values(job),
        }
        key = (self._run, job.path, job.plan.number)
        start = AttemptStart(
            job.plan.image.id, log, canonical_json(launch), self._turn, job.identity.fingerprint, boot_id()
        )
        self._database.start_attempt(key, job.work.component.name, values, start)

    def attempt_handle(self, job: Job, handle: str) -> None:
        self._database.set_handle(self._run, job.path, job.plan.number, handle)

    def attempt_failed(self, job: Job, failure: Failure) -> None:
        self._database.end_attempt(self._run, job.path, job.plan.number, failure.exit_code, failure)


def identity_values(job: Job) -> dict[str, Any]:
    return {
        "fingerprint": job.identity.fingerprint,
        "parts": canonical_json([list(part) for part in job.identity.parts]),
        "reason": job.reason or None,
    }
