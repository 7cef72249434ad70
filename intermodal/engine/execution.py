"""Runs attempts, each in the thread that asks: start or adopt, wait, harvest, commit, tidy up."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace

from intermodal.engine.artifacts import Outputs
from intermodal.engine.attempt import Attempt
from intermodal.engine.backend import Backend, Image, Launch, Meter, Usage, has_other_user
from intermodal.engine.database import RecordProblem
from intermodal.engine.deadline import Deadline
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass, refusal
from intermodal.engine.faults import Faults
from intermodal.engine.hints import suggest_network
from intermodal.engine.job import Ended, Job
from intermodal.engine.layout import StateFolder
from intermodal.engine.platform import Provided
from intermodal.engine.python import PythonSteps
from intermodal.engine.record import Record
from intermodal.engine.store import Store
from intermodal.engine.temporary import discard
from intermodal.engine.tracked import Tracker, tracked
from intermodal.errors import IntermodalError

_SETTLE = 1.0
"""Seconds that an adopted attempt has at least: one that ended while nobody looked must not be taken for one that was too slow."""


class Executor:
    """Runs the attempts of one run."""

    def __init__(
        self,
        backend: Backend,
        store: Store,
        state: StateFolder,
        record: Record,
        python: PythonSteps,
        faults: Faults,
        grace: float,
        tracker: Tracker | None,
    ) -> None:
        """`grace` is the time between SIGTERM and SIGKILL in seconds. `tracker` is None if runs are not tracked."""
        self._backend = backend
        self._store = store
        self._state = state
        self._record = record
        self._python = python
        self._faults = faults
        self._grace = grace
        self._tracker = tracker
        self._lock = threading.Lock()
        self._active: dict[str, str] = {}
        """Task path -> handle of its live attempt."""
        self._stopping = False

    def run(self, job: Job) -> Ended:
        """Run or adopt the job's attempt to its end and record it. Never raises: whatever happens is in what it returns."""
        try:
            outputs = self._run(job)
            self._faults.reach("attempt:harvested")
            self._record.succeeded(job, outputs)
            self._faults.reach("attempt:committed")
            return Ended(job, outputs, None)
        except RecordProblem as error:
            failure = error.failure
        except (AttemptFailed, IntermodalError, OSError) as error:
            failure = refusal(error)
        except BaseException as error:  # noqa: BLE001 - a defect here must end the task loudly, not hang the run
            self._record.observer.line(job.path, traceback.format_exc().encode())
            failure = refusal(error)
        recorded = False
        with contextlib.suppress(RecordProblem):  # a full disk; the failure itself is handed on
            self._record.attempt_failed(job, failure)
            recorded = True
        self._faults.reach("attempt:failed")
        return Ended(job, None, failure, recorded)

    def _run(self, job: Job) -> Outputs:
        attempt = Attempt(job.plan, self._backend, self._store, self._state)
        own_uid = not self._backend.capabilities.isolates_filesystem
        any_uid = has_other_user(job.plan.relax)
        with Provided(
            job.plan.extras, attempt.folder, own_uid=own_uid, any_uid=any_uid, adopted=job.live is not None
        ) as provided:
            prelude = job.plan.container.prelude
            runtime = self._python.runtime(prelude) if prelude else None
            launch = attempt.prepare(provided, self._image(job), runtime)
            self._faults.reach("attempt:prepared")
            failure = self._follow(job, launch, attempt)
        if failure is not None:
            raise AttemptFailed(failure)
        return attempt.harvest()

    def _image(self, job: Job) -> Image:
        """Return the image with the packages of a Python component; an attempt that is adopted has it already."""
        plan = job.plan
        if plan.packages is None or job.live is not None:
            return plan.image
        names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in plan.packages.wheels)
        self._record.observer.line(job.path, f"with packages {names}".encode())
        return self._backend.install(plan.image, plan.packages)

    def _follow(self, job: Job, launch: Launch, attempt: Attempt) -> Failure | None:
        """Return how the attempt ended."""
        handle, left = self._begin(job, launch, attempt)
        followed = time.time()
        deadline = Deadline(left, lambda: self._backend.stop(handle, self._grace))
        with self._watched(job.path, handle):
            try:
                end = self._backend.wait(handle, launch, lambda line: self._record.observer.line(job.path, line))
            finally:
                deadline.cancel()
        self._faults.reach("attempt:ended")
        job.unattended = job.live is not None and job.live.started + end.seconds < followed
        failure = deadline.failure(end.failure)
        if failure is not None and launch.network == "none" and self._backend.capabilities.isolates_network:
            return suggest_network(failure, launch.log, job.work.component.label)
        return failure

    def _begin(self, job: Job, launch: Launch, attempt: Attempt) -> tuple[str, float | None]:
        """Start the attempt, or adopt it; return its handle and the seconds that it may still take."""
        limit = job.plan.deadline
        if job.live is not None:
            found = self._backend.adopt(launch)
            if found is not None and job.obstacle:
                self._backend.remove(found)
            if found is None or job.obstacle:
                gone = "what ran it is gone" if job.live.known else "the runner was killed before it had started"
                raise AttemptFailed(Failure(FailureClass.ENGINE_LOST, job.obstacle or gone))
            job.handle = found
            self._record.attempt_handle(job, found)
            return found, None if limit is None else max(_SETTLE, limit - (time.time() - job.live.started))
        self._end_earlier(launch)
        self._record.attempt_started(job, attempt.describe(launch), str(attempt.log))
        self._faults.reach("attempt:recorded")
        launch = tracked(
            launch,
            self._tracker,
            isolated=self._backend.capabilities.isolates_network,
            stopping=lambda: self._stopping,
            say=lambda text: self._record.observer.line(job.path, text.encode()),
        )
        job.handle = handle = self._backend.start(launch)
        self._faults.reach("attempt:started")
        self._record.attempt_handle(job, handle)
        self._faults.reach("attempt:handle")
        return handle, limit

    def _end_earlier(self, launch: Launch) -> None:
        """End what earlier attempts may have left running (their engine was lost): two must never work at once."""
        for number in range(1, launch.attempt):
            folder = self._state.attempt(launch.run_id, launch.task, number)
            found = self._backend.adopt(replace(launch, attempt=number, attempt_dir=folder))
            if found is not None:
                self._backend.remove(found)

    @contextlib.contextmanager
    def _watched(self, path: str, handle: str) -> Iterator[None]:
        """Make the attempt known to `stop` for as long as it runs."""
        with self._lock:
            self._active[path] = handle
            stopping = self._stopping
        try:
            if stopping:  # asked to stop while this one was starting
                self._backend.stop(handle, self._grace)
            yield
        finally:
            with self._lock:
                self._active.pop(path, None)

    def usage(self) -> dict[str, Usage]:
        """Return what each live attempt uses, by the path of its task, as far as the backend can tell."""
        if not isinstance(self._backend, Meter):
            return {}
        with self._lock:
            active = dict(self._active)
        found = {path: self._backend.usage(handle) for path, handle in active.items()}
        return {path: used for path, used in found.items() if used is not None}

    def tidy(self, ended: Ended) -> None:
        """Remove what an ended attempt leaves: its container, and outputs that are in the store by now.

        What is not recorded is left as it is, for `resume` to find.
        """
        job = ended.job
        if job.handle is not None and ended.recorded:
            self._backend.remove(job.handle)
        self._faults.reach("attempt:removed")
        if ended.outputs is not None:
            outputs = self._state.attempt(job.plan.run, job.path, job.plan.number) / "outputs"
            with os.scandir(outputs) as entries:
                empty = next(entries, None) is None
            if not empty:  # ext4 makes new folders slowly while it remembers many that were just removed
                discard(outputs)

    def stop(self, grace: float) -> None:
        """Ask every live attempt to end, at once, without waiting for it; those that start later end too."""
        with self._lock:
            self._stopping = True
            handles = list(self._active.values())
        for handle in handles:
            threading.Thread(target=self._backend.stop, args=(handle, grace), daemon=True).start()
