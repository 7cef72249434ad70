"""Runs a pipeline: starts what may start, waits for events, records everything. One thread decides; attempts have theirs.

Event-driven: the loop sleeps in `queue.get` until an attempt ends, a retry is due, or a signal asks to stop.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from intermodal.engine.artifacts import Inputs, Outputs
from intermodal.engine.attempt import Attempt, Plan
from intermodal.engine.backend import Backend, Image, Mount
from intermodal.engine.database import Database
from intermodal.engine.failure import AttemptFailed, Failure, FailureClass
from intermodal.engine.fingerprint import custom_fingerprint, fingerprint
from intermodal.engine.graph import Graph, Node, Work
from intermodal.engine.importer import resolve_importer, run_import
from intermodal.engine.layout import StateFolder
from intermodal.engine.placeholders import Context, resolve
from intermodal.engine.resolve import Scope
from intermodal.engine.resources import Demand, Ledger, demand_of, thread_environment
from intermodal.engine.states import State
from intermodal.engine.store import Store
from intermodal.errors import BadInput, EnvironmentProblem, IntermodalError, Unsupported
from intermodal.settings import Settings
from intermodal.spec.document import canonical_json
from intermodal.spec.python_step import read_prelude
from intermodal.spec.types import Container, Importer, Pipeline


class Observer(Protocol):
    """Told what happens in a run; called from the scheduler's thread, `line` from the attempts' threads."""

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None: ...

    def line(self, path: str, line: bytes) -> None: ...


@dataclass(frozen=True)
class Options:
    """How to run, beside what to run."""

    cache: bool = True
    fail_fast: bool = False
    slots: int = 16
    """Attempts at once at most."""
    grace: float = 5.0
    """Seconds between SIGTERM and SIGKILL."""


Runtimes = Callable[[str], Path]
"""Returns the folder of the KFP runtime of a version, fetched if absent. Raises EnvironmentProblem."""


@dataclass
class _Job:
    """A leaf on its way: from ready to its last attempt."""

    work: Work
    container: Container
    image: Image
    demand: Demand
    plan: Plan
    fingerprint: str
    started: float = field(default_factory=time.time)
    first_attempt: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Ended:
    job: _Job
    outputs: Outputs | None
    failure: Failure | None


@dataclass(frozen=True)
class _Imported:
    work: Work
    outputs: Outputs | None
    failure: Failure | None


class _Stop:
    """Event: stop the run; the second one means at once."""


_Event = _Ended | _Imported | _Job | _Stop


class Runner:
    """Runs one pipeline once. `run` blocks; `stop` may be called from a signal handler."""

    def __init__(
        self,
        pipeline: Pipeline,
        inputs: Inputs,
        *,
        run_id: str,
        job: Mapping[str, str],
        backend: Backend,
        state: StateFolder,
        store: Store,
        database: Database,
        settings: Settings,
        ledger: Ledger,
        options: Options,
        observer: Observer,
        runtimes: Runtimes,
    ) -> None:
        self.run_id = run_id
        self._pipeline = pipeline
        self._job_names = dict(job)
        self._backend = backend
        self._state = state
        self._store = store
        self._database = database
        self._settings = settings
        self._ledger = ledger
        self._options = options
        self._observer = observer
        self._runtimes = runtimes
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._ready: deque[Work] = deque()
        self._waiting: deque[_Job] = deque()
        self._active: dict[str, str] = {}
        """Task path -> handle of its live attempt."""
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._timers: dict[str, tuple[threading.Timer, _Job]] = {}
        self._stopping = False
        self._images: dict[str, Image] = {}
        self._started: dict[str, float] = {}
        self._graph = Graph(pipeline, inputs, job, self)

    # Before

    def resolve_images(self) -> None:
        """Find every image that the pipeline names, so that a missing one is known before anything starts."""
        for component in self._pipeline.components.values():
            container = component.implementation
            if isinstance(container, Container) and "{{" not in container.image:
                self._image(container.image)

    def _image(self, reference: str) -> Image:
        if reference not in self._images:
            self._images[reference] = self._backend.resolve_image(reference)
        return self._images[reference]

    # The loop

    def run(self) -> tuple[State, Outputs]:
        """Run to the end and return the pipeline's state and outputs. Never leaves an attempt of its own running."""
        try:
            self._graph.start()
            self._pump()
            while not self._graph.done:
                self._handle(self._events.get())
                self._pump()
        finally:
            self._end_all()
        root = self._graph.root
        return root.state, root.outputs

    def stop(self) -> None:
        """Ask the run to stop; safe in a signal handler."""
        self._events.put(_Stop())

    def _handle(self, event: _Event) -> None:
        if isinstance(event, _Stop):
            self._on_stop()
        elif isinstance(event, _Job):
            self._timers.pop(event.work.path, None)
            self._waiting.append(event)
        elif isinstance(event, _Imported):
            state = State.SUCCEEDED if event.outputs is not None else State.FAILED
            self._finish(event.work, state, event.outputs, event.failure)
        else:
            self._on_end(event)

    def _pump(self) -> None:
        """Prepare every ready leaf, then start those that fit, oldest first."""
        while self._ready:
            self._prepare(self._ready.popleft())
        for job in list(self._waiting):
            if self._ledger.take(job.demand):
                self._waiting.remove(job)
                self._start(job)

    # Graph listener

    def ready(self, leaf: Work) -> None:
        self._ready.append(leaf)

    def changed(self, node: Node) -> None:
        """Record a task that is not one leaf: a skipped or cancelled one, a loop, a nested pipeline."""
        if node.state is State.RUNNING:
            self._started.setdefault(node.path, time.time())
            return
        single = len(node.iterations) == 1 and node.iterations[0].path == node.path
        if not (single and isinstance(node.component.implementation, Container | Importer)):
            self._record(node.path, node.component.name, node.state, node.outputs, node.failure)

    def _record(
        self,
        path: str,
        component: str,
        state: State,
        outputs: Outputs,
        failure: Failure | None,
        note: str = "",
        **more: object,
    ) -> None:
        now = time.time()
        started = self._started.get(path, now)
        values = {
            "state": state.value,
            "outputs": canonical_json(outputs.as_json()),
            "started": started,
            "ended": now,
            "failure_class": failure.kind.value if failure else None,
            "failure": failure.message if failure else None,
            "exit_code": failure.exit_code if failure else None,
        }
        self._database.put_task(self.run_id, path, component, {**values, **more})
        self._observer.task(path, state, now - started, failure, note)

    # A leaf

    def _prepare(self, work: Work) -> None:
        """Decide a leaf's image, identity and demand; finish it at once if it is cached or cannot run."""
        self._started.setdefault(work.path, time.time())
        if self._stopping:
            self._finish(work, State.CANCELLED)
            return
        try:
            if isinstance(work.component.implementation, Importer):
                self._import(work, work.component.implementation)
                return
            job = self._job(work)
        except IntermodalError as error:
            kind = FailureClass.IMAGE if isinstance(error, EnvironmentProblem) else FailureClass.USER_CODE
            self._finish(work, State.FAILED, failure=Failure(kind, error.message))
            return
        if not self._from_cache(job):
            self._waiting.append(job)

    def _job(self, work: Work) -> _Job:
        container = work.component.implementation
        assert isinstance(container, Container)
        names = {
            **self._job_names,
            "pipeline_task_name": work.task.name,
            "pipeline_task_uuid": f"{self.run_id}/{work.path}",
        }
        context = Context(parameters=work.inputs.parameters, channels=work.inputs.channels, job=names)
        image = self._image(resolve(container.image, context))
        demand, limits = demand_of(container.resources, context, work.path)
        self._ledger.check(demand, work.path)
        identity = fingerprint(work.component, container, work.inputs, image.digest, names)
        if work.task.cache_key:
            identity = custom_fingerprint(work.component, resolve(work.task.cache_key, context))
        plan = Plan(
            run=self.run_id,
            path=work.path,
            number=0,
            component=work.component,
            container=container,
            inputs=work.inputs,
            image=image,
            limits=limits,
            network=self._settings.network.get(work.component.name.removeprefix("comp-"), "none"),
            env=thread_environment(demand.cpus),
            job=names,
            volumes=self._volumes(work, container),
            runtime=self._runtime(work, container),
        )
        return _Job(work, container, image, demand, plan, identity)

    def _runtime(self, work: Work, container: Container) -> Path | None:
        """Return the KFP runtime that the step needs, None if it is no lightweight Python component."""
        prelude = read_prelude(container.command)
        if prelude is None:
            return None
        if prelude.packages:
            raise Unsupported(f"{work.path}: packages_to_install ({', '.join(prelude.packages)}) is not supported yet")
        return self._runtimes(prelude.kfp_version)

    def _volumes(self, work: Work, container: Container) -> tuple[Mount, ...]:
        scope = Scope(work.inputs, lambda *_: None, lambda *_: None, lambda _: None, self._job_names)
        mounts = []
        for volume in container.volumes:
            claim = scope.parameter(volume.name)
            if not isinstance(claim, str) or not claim:
                raise BadInput(f"{work.path}: the claim mounted at {volume.path} has no name")
            mounts.append(
                Mount(self._state.volume(claim, volume.sub_path), PurePosixPath(volume.path), read_only=False)
            )
        return tuple(mounts)

    def _from_cache(self, job: _Job) -> bool:
        """Finish the job from the cache if it can be; a damaged entry is a miss."""
        if not (self._options.cache and job.work.task.cache):
            return False
        entry = self._database.cached(job.fingerprint)
        if entry is None:
            return False
        digests = [item.digest for items in entry.outputs.artifacts.values() for item in items if item.digest]
        if not all(self._store.has(digest) for digest in digests):
            self._observer.line(
                job.work.path, b"cache: the entry's artifacts are not in the store any more; running again"
            )
            return False
        self._finish(job.work, State.CACHED, entry.outputs, job=job, cached_from=f"{entry.run}/{entry.path}")
        return True

    def _import(self, work: Work, importer: Importer) -> None:
        """Fetch on a thread of its own: a download must not hold up the others."""
        uri, metadata = resolve_importer(importer, work.inputs, self._job_names, work.path)
        self._observer.task(work.path, State.RUNNING, 0.0, None, uri)

        def fetch() -> None:
            outputs, failure = None, None
            try:
                artifact = run_import(importer, uri, metadata, self._store, self._database)
                outputs = Outputs(artifacts=dict.fromkeys(work.component.output_artifacts, (artifact,)))
            except AttemptFailed as error:
                failure = error.failure
            except BaseException as error:  # noqa: BLE001 - a library of a scheme may raise anything; the run must hear of it
                failure = Failure(FailureClass.USER_CODE, f"{uri} cannot be imported: {error!r}")
            self._threads.discard(threading.current_thread())
            self._events.put(_Imported(work, outputs, failure))

        thread = threading.Thread(target=fetch, name=f"import {work.path}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _finish(
        self,
        work: Work,
        state: State,
        outputs: Outputs | None = None,
        failure: Failure | None = None,
        job: _Job | None = None,
        cached_from: str | None = None,
    ) -> None:
        """Record a leaf's end and tell the graph."""
        given = outputs or Outputs()
        inputs = {
            "parameters": dict(work.inputs.parameters),
            "artifacts": {name: [item.as_json() for item in items] for name, items in work.inputs.artifacts.items()},
        }
        self._record(
            work.path,
            work.component.name,
            state,
            given,
            failure,
            note="cached" if cached_from else "",
            inputs=canonical_json(inputs),
            fingerprint=job.fingerprint if job else None,
            cached_from=cached_from,
        )
        if state is State.FAILED and self._options.fail_fast:
            self._graph.drain()
        self._graph.finish(work, state, given, failure)

    # Attempts

    def _start(self, job: _Job) -> None:
        job.plan = Plan(**{**vars(job.plan), "number": job.plan.number + 1})
        if job.plan.number == 1:
            self._started[job.work.path] = time.time()
            job.first_attempt = time.monotonic()
        self._observer.task(
            job.work.path, State.RUNNING, 0.0, None, "" if job.plan.number == 1 else f"attempt {job.plan.number}"
        )
        thread = threading.Thread(target=self._attempt, args=(job,), name=f"attempt {job.work.path}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _attempt(self, job: _Job) -> None:
        """Run one attempt on its own thread; whatever happens becomes an event."""
        outputs, failure, crash = None, None, None
        try:
            outputs, failure = self._run_attempt(job)
        except AttemptFailed as error:
            failure = error.failure
        except BaseException as error:  # noqa: BLE001 - a defect here must end the run loudly, not hang it
            crash = error
            failure = Failure(FailureClass.ENGINE_LOST, f"internal error: {error!r}")
        if crash is not None:
            import traceback

            self._observer.line(job.work.path, "".join(traceback.format_exception(crash)).encode())
        self._threads.discard(threading.current_thread())
        self._events.put(_Ended(job, outputs, failure))

    def _run_attempt(self, job: _Job) -> tuple[Outputs | None, Failure | None]:
        path, plan = job.work.path, job.plan
        attempt = Attempt(plan, self._backend, self._store, self._state)
        launch = attempt.prepare()
        self._database.start_attempt(self.run_id, path, plan.number, plan.image.id, attempt.log)
        exit_code: int | None = None
        failure: Failure | None = None
        try:
            handle = self._backend.start(launch)
            try:
                self._database.set_handle(self.run_id, path, plan.number, handle)
                with self._lock:
                    self._active[path] = handle
                    stopping = self._stopping
                if stopping:  # asked to stop while this one was starting
                    self._backend.stop(handle, self._options.grace)
                end = self._backend.wait(handle, launch, lambda line: self._observer.line(path, line))
            finally:
                with self._lock:
                    self._active.pop(path, None)
                self._backend.remove(handle)
            exit_code, failure = end.exit_code, end.failure
            return (attempt.harvest(), None) if failure is None else (None, failure)
        except AttemptFailed as error:
            failure = error.failure
            raise
        finally:
            self._database.end_attempt(self.run_id, path, plan.number, exit_code, failure)

    def _on_end(self, event: _Ended) -> None:
        job, work = event.job, event.job.work
        self._ledger.give(job.demand)
        if event.outputs is not None:
            seconds = time.time() - self._started[work.path]
            self._database.put_cache(
                job.fingerprint, work.component.name, event.outputs, self.run_id, work.path, seconds
            )
            self._finish(work, State.SUCCEEDED, event.outputs, job=job)
        elif self._stopping:
            self._finish(work, State.CANCELLED, failure=Failure(FailureClass.CANCELLED, "stopped by the user"), job=job)
        elif not self._retry(job, event.failure):
            self._finish(work, State.FAILED, failure=event.failure, job=job)

    def _retry(self, job: _Job, failure: Failure | None) -> bool:
        """Schedule another attempt if the task has one left."""
        policy, attempts = job.work.task.retry, job.plan.number
        delay = policy.delay * policy.factor ** (attempts - 1)
        if attempts > policy.count or time.monotonic() + delay > job.first_attempt + policy.total:
            return False
        reason = failure.message if failure else ""
        self._observer.line(job.work.path, f"attempt {attempts} failed ({reason}); again in {delay:g} s".encode())
        timer = threading.Timer(delay, self._events.put, (job,))
        timer.daemon = True
        self._timers[job.work.path] = (timer, job)
        timer.start()
        return True

    # Stopping

    def _on_stop(self) -> None:
        with self._lock:
            again, self._stopping = self._stopping, True
            handles = list(self._active.values())
        grace = 0.0 if again else self._options.grace
        for handle in handles:
            threading.Thread(target=self._backend.stop, args=(handle, grace), daemon=True).start()
        if again:
            return
        self._graph.cancel()
        for timer, _ in self._timers.values():
            timer.cancel()
        idle = [*self._waiting, *(job for _, job in self._timers.values())]
        self._waiting.clear()
        self._timers.clear()
        for job in idle:
            self._finish(job.work, State.CANCELLED, job=job)

    def _end_all(self) -> None:
        """Stop and await what still runs when the loop is left, however it was left."""
        with self._lock:
            self._stopping = True
            handles = list(self._active.values())
        for handle in handles:
            self._backend.stop(handle, 0.0)
        for thread in list(self._threads):
            thread.join()
        try:
            self._backend.cleanup(self.run_id)
        except EnvironmentProblem as error:  # the run's own outcome is known and more important
            self._observer.line("", error.message.encode())
