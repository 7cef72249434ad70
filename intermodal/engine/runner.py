"""Runs a pipeline: starts what may start, waits for events, records everything. One thread decides; attempts have theirs.

Event-driven: the loop sleeps in `queue.get` until an attempt ends, a retry is due, the run's time is over, or a signal asks to stop.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from intermodal.engine.artifacts import Inputs, Outputs
from intermodal.engine.backend import Backend, Usage
from intermodal.engine.claims import is_claim_operation, operate_claim
from intermodal.engine.database import Database, RecordProblem
from intermodal.engine.execution import Executor
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass, refusal
from intermodal.engine.faults import Faults
from intermodal.engine.graph import Graph, Node, Work
from intermodal.engine.importer import Imports, resolve_importer
from intermodal.engine.job import Ended, Job, inputs_json
from intermodal.engine.layout import StateFolder
from intermodal.engine.lookup import damage_of, look_up
from intermodal.engine.options import Options
from intermodal.engine.planner import Planner
from intermodal.engine.record import Record
from intermodal.engine.resources import Ledger
from intermodal.engine.resume import Finished, Lineage, Past
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.engine.temporary import discard
from intermodal.errors import EnvironmentProblem, IntermodalError
from intermodal.spec.types import Container, Importer, Pipeline

_LOST = frozenset({FailureClass.ENGINE_LOST, FailureClass.KILLED})
"""How an adopted attempt may have ended that says nothing about its step: with its engine, or by who killed its runner."""


_IMPORTS = 8
"""Downloads at once at most, beside the attempts."""


@dataclass(frozen=True)
class Services:
    """What a runner works with."""

    backend: Backend
    state: StateFolder
    store: Store
    database: Database
    record: Record
    planner: Planner
    executor: Executor
    ledger: Ledger
    faults: Faults


@dataclass(frozen=True)
class _Imported:
    work: Work
    outputs: Outputs | None
    failure: Failure | None


@dataclass(frozen=True)
class _Provided:
    """Event: what leaves waited for is here, or `failure` says why not."""

    name: str
    failure: Failure | None


@dataclass(frozen=True)
class _Stop:
    """Event: stop the run; the second one of the user means at once. `failure` is why, if it was not the user."""

    failure: Failure | None = None


_Event = Ended | _Imported | _Provided | Job | _Stop


class Runner:
    """Runs one pipeline once, or goes on with it. `run` blocks; `stop` may be called from a signal handler."""

    def __init__(
        self, pipeline: Pipeline, inputs: Inputs, run_id: str, services: Services, options: Options, past: Past
    ) -> None:
        """`past` is what earlier runners of the run did. Raises BadInput if the pipeline's inputs are wrong."""
        self.run_id = run_id
        self._services = services
        self._record = services.record
        self._planner = services.planner
        self._ledger = services.ledger
        self._options = options
        self._past = past
        self._lineage = Lineage(past)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._ready: deque[Work] = deque()
        self._waiting: deque[Job] = deque()
        # A thread is free again only when its attempt is tidied away, which is after its place is given to another.
        self._pool = ThreadPoolExecutor(2 * options.slots + _IMPORTS, "attempt")
        self._wanting: dict[str, list[Work]] = {}
        self._timers: dict[str, tuple[threading.Timer, Job]] = {}
        self._stopping: _Stop | None = None
        workspace = services.state.open_workspace(run_id) if pipeline.workspace else None
        self._imports = Imports(services.store, services.database, services.backend, options.places, workspace)
        self.graph = Graph(pipeline, inputs, self._planner.names, self, options.success_word)
        """Every task with its inputs, outputs and state, for whoever looks after the run."""

    # The loop

    def run(self) -> tuple[State, Outputs]:
        """Run to the end and return the pipeline's state and outputs. Never leaves an attempt of its own running."""
        timer = self._start_clock()
        try:
            self.graph.start()
            self._pump()
            while not self.graph.done:
                self._handle(self._events.get())
                self._pump()
        finally:
            if timer is not None:
                timer.cancel()
            self._end_all()
        self._clean()
        root = self.graph.root
        return root.state, root.outputs

    def stop(self) -> None:
        """Ask the run to stop; safe in a signal handler."""
        self._events.put(_Stop())

    def usage(self) -> dict[str, Usage]:
        """Return what each live attempt uses now, by the path of its task; asks the backend, so it takes a moment."""
        return self._services.executor.usage()

    def _start_clock(self) -> threading.Timer | None:
        given = (self._options.timeout, self.graph.pipeline.deadline)
        limit = min((seconds for seconds in given if seconds is not None), default=None)
        if limit is None:
            return None
        failure = Failure(FailureClass.TIMEOUT, f"the run took longer than {limit:g} s and was stopped")
        timer = threading.Timer(limit, self._events.put, (_Stop(failure),))
        timer.daemon = True
        timer.start()
        return timer

    def _handle(self, event: _Event) -> None:
        if isinstance(event, _Stop):
            self._on_stop(event)
        elif isinstance(event, Job):
            self._timers.pop(event.path, None)
            self._waiting.append(event)
        elif isinstance(event, _Provided):
            self._on_provided(event)
        elif isinstance(event, _Imported):
            state = State.SUCCEEDED if event.outputs is not None else State.FAILED
            self._finish(event.work, state, event.outputs, event.failure)
        else:
            self._on_end(event)

    def _pump(self) -> None:
        """Prepare every ready leaf, then start those that fit, oldest first."""
        while self._ready:
            self._prepare(self._ready.popleft())
        passed: list[Job] = []  # a queue of thousands must not be walked through at every event
        while self._waiting and not self._ledger.full:
            job = self._waiting.popleft()
            if self._ledger.take(job.demand):
                job.next_attempt()
                self._start(job)
            else:
                passed.append(job)
        self._waiting.extendleft(reversed(passed))

    # Graph listener

    def ready(self, leaf: Work) -> None:
        self._ready.append(leaf)

    def changed(self, node: Node) -> None:
        """Record a task that is not one leaf: a skipped or cancelled one, a loop, a nested pipeline."""
        if node.state is State.RUNNING:
            self._record.begin(node.path)
            return
        self._heed(node.state)
        self._lineage.ended(node)
        single = len(node.iterations) == 1 and node.iterations[0].path == node.path
        if not (single and isinstance(node.component.implementation, Container | Importer)):
            self._record.group(
                node.path, node.component.name, node.state, node.outputs, node.failure, reason=node.reason or None
            )

    def unfit(self, iteration: Work) -> None:
        self._record.group(
            iteration.path, iteration.component.name, State.FAILED, Outputs(), iteration.failure, reason=None
        )
        self._heed(State.FAILED)

    def _heed(self, state: State) -> None:
        """Start nothing more after a failure if the user wants that, wherever the failure came from."""
        if state is State.FAILED and self._options.fail_fast:
            self.graph.drain()

    # A leaf

    def _prepare(self, work: Work) -> None:
        """Decide a leaf's image, identity and demand; finish it at once if it is done already or cannot run."""
        done = self._lineage.finished(work)
        if done is not None and self._holds(work.path, done):
            self._lineage.did(work, done.turn)
            self._record.announce(work.path, done.state, done.seconds, note="done before")
            self.graph.finish(work, done.state, done.outputs, None)
            return
        self._lineage.did(work, self._past.turn)
        self._record.begin(work.path, time.time())
        if self._stopping is not None:
            self._finish(work, State.CANCELLED)
            return
        try:
            if isinstance(work.component.implementation, Importer):
                self._import(work, work.component.implementation)
            elif is_claim_operation(work):
                outputs = operate_claim(work, self._services.state, self.run_id)
                self._finish(work, State.SUCCEEDED, outputs)
            elif (name := self._planner.missing(work)) is None:
                self._admit(self._planner.job(work))
            else:
                self._provide(name, work)
        except RecordProblem:
            raise  # no failure of the task, whose end may be on record already: the run cannot go on
        except (IntermodalError, OSError) as error:  # an OSError: the folder of a volume cannot be made
            self._finish(work, State.FAILED, failure=refusal(error))

    def _provide(self, name: str, work: Work) -> None:
        """Pull an image or fetch packages, once for all leaves that want the same, without holding up the others."""
        self._wanting.setdefault(name, []).append(work)
        if len(self._wanting[name]) > 1:
            return

        def fetch() -> None:
            failure: Failure | None = None
            try:
                self._planner.provide(work, lambda text: self._record.observer.line(work.path, text.encode()))
            except BaseException as error:  # noqa: BLE001 - whatever it is must end the tasks loudly, not hang the run
                failure = refusal(error)
            self._events.put(_Provided(name, failure))

        self._pool.submit(fetch)

    def _on_provided(self, event: _Provided) -> None:
        for work in self._wanting.pop(event.name):
            if event.failure is not None and self._stopping is None:
                self._finish(work, State.FAILED, failure=event.failure)
            else:
                self._ready.append(work)

    def _admit(self, job: Job) -> None:
        """Adopt the leaf's living attempt, take its outputs from the cache, or let it wait for its turn."""
        live = self._lineage.live(job.work)
        if live is not None:
            job.adopt(live, self._lineage.obstacle(job, live))
            self._ledger.seize(job.demand)
            self._start(job)
            return
        before = self._past.attempts.get(job.path, 0)
        job.restart_after(before)
        if self._past.turn > 1:  # a killed runner may have prepared an attempt without having recorded it
            discard(self._services.state.attempt(self.run_id, job.path, before + 1))
        if not self._from_cache(job):
            self._waiting.append(job)

    def _from_cache(self, job: Job) -> bool:
        """Finish the job from the cache if it can be; a damaged entry is a miss."""
        off = self._planner.caching_off(job.work.task, job.path)
        if self._lineage.again(job.work):
            off = "a task before it ran again"
        found = look_up(job.identity.fingerprint, off, self._services.database, self._services.store)
        job.reason = found.reason
        if found.damaged:
            self._record.observer.line(job.path, f"cache: {found.reason}; running again".encode())
        if found.entry is None:
            return False
        origin = f"{found.entry.run}/{found.entry.path}"
        self._finish(job.work, State.CACHED, found.entry.outputs, job=job, cached_from=origin)
        return True

    def _holds(self, path: str, done: Finished) -> bool:
        """Whether the store still has all that an earlier runner's task gave; if not, say so."""
        damage = damage_of(done.outputs, self._services.store)
        if damage is not None:
            self._record.observer.line(path, f"{damage}; running again".encode())
        return damage is None

    def _import(self, work: Work, importer: Importer) -> None:
        """Fetch on a thread of its own: a download must not hold up the others."""
        uri, metadata = resolve_importer(importer, work.inputs, self._planner.names, work.path)
        self._record.announce(work.path, State.RUNNING, 0.0, note=uri)
        imports = self._imports

        def fetch() -> None:
            outputs, failure = None, None
            try:
                artifact = imports.run(importer, uri, metadata)
                outputs = Outputs(artifacts=dict.fromkeys(work.component.output_artifacts, (artifact,)))
            except (AttemptFailed, RecordProblem) as error:
                failure = error.failure
            except BaseException as error:  # noqa: BLE001 - a library of a scheme may raise anything; the run must hear of it
                failure = Failure(FailureClass.USER_CODE, f"{uri} cannot be imported: {error!r}")
            self._events.put(_Imported(work, outputs, failure))

        self._pool.submit(fetch)

    def _finish(
        self,
        work: Work,
        state: State,
        outputs: Outputs | None = None,
        failure: Failure | None = None,
        job: Job | None = None,
        cached_from: str | None = None,
    ) -> None:
        """Record a leaf's end and tell the graph."""
        given = outputs or Outputs()
        name = work.component.name
        self._record.leaf(
            job, work.path, name, state, given, failure, inputs=inputs_json(work), cached_from=cached_from
        )
        self._conclude(work, state, given, failure)

    def _conclude(self, work: Work, state: State, outputs: Outputs, failure: Failure | None) -> None:
        self._heed(state)
        self._services.faults.reach("task:finished")
        self.graph.finish(work, state, outputs, failure)

    # Attempts

    def _start(self, job: Job) -> None:
        if job.attempts <= 1:
            job.begin(job.live.started if job.live else time.time())
            self._record.begin(job.path, job.started)
        note = "adopted" if job.live else "" if job.attempts <= 1 else f"attempt {job.attempts}"
        self._record.announce(job.path, State.RUNNING, 0.0, note=note)
        executor = self._services.executor

        def attempt() -> None:
            ended = executor.run(job)
            self._events.put(ended)
            executor.tidy(ended)

        self._pool.submit(attempt)

    def _on_end(self, event: Ended) -> None:
        job, work = event.job, event.job.work
        self._ledger.give(job.demand)
        if event.outputs is not None:  # recorded already, in one transaction with its attempt
            self._record.announce(job.path, State.SUCCEEDED, time.time() - job.started)
            self._conclude(work, State.SUCCEEDED, event.outputs, None)
        elif self._stopping is not None:
            self._abandon(job)
        elif not self._retry(job, event.failure):
            self._finish(work, State.FAILED, failure=event.failure, job=job)

    def _retry(self, job: Job, failure: Failure | None) -> bool:
        """Schedule another attempt if the task has one left."""
        policy, attempts = job.work.task.retry, job.attempts
        lost = job.live is not None and (job.unattended or (failure is not None and failure.kind in _LOST))
        delay = 0.0 if lost else policy.delay * policy.factor ** (attempts - 1)
        over = attempts > policy.count or time.monotonic() + delay > job.first_attempt + policy.total
        if lost:  # it belongs to the runner that was killed: to resume is to try again
            job.restart_after(job.plan.number)
        elif over:
            return False
        reason = failure.message if failure else ""
        self._record.observer.line(
            job.path, f"attempt {job.plan.number} failed ({reason}); again in {delay:g} s".encode()
        )
        timer = threading.Timer(delay, self._events.put, (job,))
        timer.daemon = True
        self._timers[job.path] = (timer, job)
        timer.start()
        return True

    # Stopping

    def _on_stop(self, event: _Stop) -> None:
        again = self._stopping is not None
        if not again:
            self._stopping = event
        self._services.executor.stop(0.0 if again else self._options.grace)
        if again:
            return
        self.graph.cancel()
        for timer, _ in self._timers.values():
            timer.cancel()
        idle = [*self._waiting, *(job for _, job in self._timers.values())]
        self._waiting.clear()
        self._timers.clear()
        for job in idle:
            self._abandon(job)

    def _abandon(self, job: Job) -> None:
        """End a task that the stop of the run cut off."""
        reason = self._stopping.failure if self._stopping else None
        state = State.FAILED if reason else State.CANCELLED
        failure = reason or Failure(FailureClass.CANCELLED, "stopped by the user")
        self._finish(job.work, state, failure=failure, job=job)

    def _end_all(self) -> None:
        """Stop and await what still runs when the loop is left, however it was left."""
        self._services.executor.stop(0.0)
        self._pool.shutdown()

    def _clean(self) -> None:
        """Remove what the backend still has of a run whose every attempt is recorded."""
        try:
            self._services.backend.cleanup(self.run_id)
        except EnvironmentProblem as error:  # the run's own outcome is known and more important
            self._record.observer.line("", error.message.encode())
