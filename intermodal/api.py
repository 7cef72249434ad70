"""Pipelines from Python: `intermodal.run(pipeline, arguments)` in a script, a notebook or a test.

The same as the command `intermodal run`: both stand on `engine.session`, and leave the same record.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, ParamSpec

from intermodal.backends.registry import Factory, Place, default_backend, make_backend
from intermodal.cli.progress import PlainProgress
from intermodal.cli.records import find_run, open_database
from intermodal.engine.arguments import GivenArtifact
from intermodal.engine.backend import Backend
from intermodal.engine.database import Database
from intermodal.engine.failure import Failure
from intermodal.engine.layout import StateFolder
from intermodal.engine.options import Options, parse_seconds
from intermodal.engine.platform import ConfigFolders
from intermodal.engine.record import Observer
from intermodal.engine.resume import read_request
from intermodal.engine.runner import Runner
from intermodal.engine.session import Session
from intermodal.engine.states import State
from intermodal.report import report_end
from intermodal.results import Artifact, Run, read_run
from intermodal.settings import Settings, find_project, load_settings, overlay
from intermodal.sources import Source, Spelling, load_object, load_source, read_values
from intermodal.spec.types import Pipeline
from intermodal.tracking.following import Following, tracker_of

AnyPath = str | os.PathLike[str]
P = ParamSpec("P")


class Running:
    """A run that goes on in a thread of its own. The interpreter does not end before it has."""

    def __init__(self, session: Session, runner: Runner, tracking: Following, *, raise_on_error: bool) -> None:
        self.id = runner.run_id
        self._session = session
        self._runner = runner
        self._tracking = tracking
        self._raises = raise_on_error
        self._over = threading.Event()
        self._run: Run | None = None
        self._error: BaseException | None = None
        threading.Thread(target=self._execute, name=f"run {self.id}").start()

    def _execute(self) -> None:
        try:
            with self._session as session:
                session.execute(self._runner)
                problem = report_end(session.state, self.id, self._runner.graph.pipeline)
            if problem:
                warnings.warn(problem, stacklevel=1)
            self._run = _read(session.state, self.id)
        except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the thread of whoever asks
            self._error = error
        finally:
            self._tracking.end()
            self._over.set()

    def __repr__(self) -> str:
        return f"<Running {self.id}{' (over)' if self.done else ''}>"

    @property
    def done(self) -> bool:
        return self._over.is_set()

    def stop(self) -> None:
        """Ask the run to stop: SIGTERM to its steps, a grace of some seconds, SIGKILL. A second time: at once."""
        self._runner.stop()

    def wait(self, timeout: float | None = None) -> Run:
        """Return the run when it is over.

        A KeyboardInterrupt (Ctrl-C, a notebook's stop button), or whatever else is raised in the waiting thread, stops the run,
        and is raised again when that is done. Raises RunFailed if a task failed (and `raise_on_error` was not False),
        TimeoutError if the run goes on after `timeout` seconds.
        """
        try:
            over = self._over.wait(timeout)
        except BaseException:
            self._stop_and_wait()
            raise
        if not over:
            raise TimeoutError(f"run {self.id} is not over after {timeout:g} s")
        if self._error is not None:
            raise self._error
        if self._run is None:
            raise AssertionError("a run that is over has a result")
        if self._raises:
            self._run.raise_for_failure()
        return self._run

    def _stop_and_wait(self) -> None:
        while not self.done:
            self.stop()
            try:
                self._over.wait()
            except KeyboardInterrupt:  # once more: at once
                continue


def start(
    pipeline: Any,
    arguments: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    config: AnyPath | None = None,
    backend: str | Backend | Factory | None = None,
    state: AnyPath | None = None,
    project: AnyPath | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    no_cache: bool | Collection[str] = False,
    fail_fast: bool = False,
    max_parallel: int = 16,
    timeout: float | str | timedelta | None = None,
    grace: float = 5.0,
    secrets: AnyPath | None = None,
    config_maps: AnyPath | None = None,
    success_word: Literal["COMPLETE", "SUCCEEDED"] = "COMPLETE",
    raise_on_error: bool = True,
    progress: bool | Observer | None = None,
) -> Running:
    """Begin to run a pipeline; several may run at once. Everything that can be known before a task starts is checked first.

    Args:
        pipeline: a `@dsl.pipeline` or component of the KFP SDK; the path of a Python file or of compiled IR YAML; a loaded `Pipeline`.
        arguments: values by name. An artifact is the path of a file or folder, or an `Artifact` of another run.
        name: which pipeline of a Python file, if it has several.
        config: a YAML file with values; `arguments` win over it.
        backend: `docker`, `process`, `host`, or a name that a package gives; or a backend, which is closed when the run is over.
            Default: $INTERMODAL_BACKEND, else docker.
        state: the state folder. Default: $INTERMODAL_STATE, else `.intermodal`.
        project: the folder whose pyproject.toml holds the settings. Default: the nearest around the pipeline's file.
        settings: tables of `[tool.intermodal]`, laid over the project's; or all settings.
        no_cache: run every task, or those named, whatever ran before.
        fail_fast: start nothing more once a task failed.
        max_parallel: attempts at once at most.
        timeout: how long the run may take: seconds, `"30m"`, a timedelta.
        grace: seconds between SIGTERM and SIGKILL when a step is stopped.
        secrets: the folder of secrets. Default: `secrets` in the state folder.
        config_maps: the folder of config maps. Default: `config-maps` in the state folder.
        success_word: what PipelineTaskFinalStatus says of a task that succeeded.
        raise_on_error: whether waiting for the run raises RunFailed if a task failed; else look at `ok` and `failed`.
        progress: one line an event on stderr. Default: on a terminal and in a notebook. Or an observer of your own.

    Raises BadInput (an argument, a file, a setting), Unsupported (a construct), EnvironmentProblem (an engine, an image).
    """
    source = _source(pipeline, name)
    folder = Path(project).absolute() if project is not None else source.project
    place = _state(state)
    chosen = Options(
        cache=no_cache is not True,
        no_cache_tasks=_names(no_cache),
        fail_fast=fail_fast,
        slots=max_parallel,
        grace=grace,
        timeout=_seconds(timeout),
        configs=ConfigFolders(
            Path(secrets or place / "secrets").absolute(), Path(config_maps or place / "config-maps").absolute()
        ),
        success_word=success_word,
    )
    given = {key: _argument(value) for key, value in (arguments or {}).items()}
    spelling: Spelling = "values"
    if config is not None:
        given, spelling = {**read_values(Path(config), []), **given}, "file"
    request = replace(source.request(given, spelling), project=folder)
    wanted = _settings(settings, folder)
    tracker = tracker_of(wanted, place, os.environ)
    session = Session(place, _backend(backend, folder, place, wanted), wanted, chosen, tracker=tracker)
    prepare = functools.partial(session.runner, request)
    return _begin(session, prepare, session.notes(source.pipeline), wanted, progress, raise_on_error)


def _to_the_end(begin: Callable[P, Running]) -> Callable[P, Run]:
    """Return a function that does what `begin` does, with the same arguments, and waits for the run."""

    @functools.wraps(begin)
    def run(*args: P.args, **options: P.kwargs) -> Run:
        return begin(*args, **options).wait()

    run.__name__ = run.__qualname__ = "run"
    run.__signature__ = inspect.signature(begin).replace(return_annotation="Run")  # type: ignore[attr-defined]
    run.__doc__ = f"""Run a pipeline and return what came of it, a `Run`: `start` and `wait` in one.

    A KeyboardInterrupt (Ctrl-C, a notebook's stop button) stops the run before it is raised again. Raises RunFailed if a task
    failed, with what is wrong and the end of its log, unless `raise_on_error` is False.
{(begin.__doc__ or "").partition("first.")[2].removeprefix(chr(10))}"""
    return run


run = _to_the_end(start)


def resume(
    run_id: str | None = None,
    *,
    state: AnyPath | None = None,
    raise_on_error: bool = True,
    progress: bool | Observer | None = None,
) -> Run:
    """Go on with a run, by its name or a unique part of it (default: the newest): green tasks stay, all else runs.

    The run's own backend, options and settings hold. A run that is green already is returned as it is. Raises as `run` does.
    """
    place = _state(state)
    database = open_database(place)
    try:
        found = find_run(database, run_id)
        kept = read_request(database, StateFolder.at(place), found["id"])
    finally:
        database.close()
    if State(found["state"]).green:
        return get_run(found["id"], state=place)
    backend = _backend(found["backend"], kept.project, place, kept.settings)
    tracker = tracker_of(kept.settings, place, os.environ)
    session = Session(place, backend, kept.settings, kept.options, tracker=tracker)
    prepare = functools.partial(session.resume, found["id"])
    return _begin(session, prepare, session.notes(kept.pipeline), kept.settings, progress, raise_on_error).wait()


def get_run(run_id: str | None = None, *, state: AnyPath | None = None) -> Run:
    """Return a run of the record, by its name or a unique part of it (default: the newest). Raises BadInput if there is none."""
    place = _state(state)
    database = open_database(place)
    try:
        return read_run(database, StateFolder.at(place), find_run(database, run_id)["id"])
    finally:
        database.close()


def _begin(
    session: Session,
    prepare: Callable[[Observer], Runner],
    notes: list[str],
    settings: Settings,
    progress: bool | Observer | None,
    raise_on_error: bool,
) -> Running:
    """Prepare the run in this thread, so that what is wrong is raised here, and set it going."""
    with ExitStack() as on_error:
        on_error.enter_context(session)
        observer = _observer(progress)
        runner = prepare(observer)
        tracking = Following(settings, session.state, runner.run_id, os.environ)
        if isinstance(observer, PlainProgress):
            observer.begin(runner.run_id, [*notes, *tracking.notes])
        running = Running(session, runner, tracking, raise_on_error=raise_on_error)
        on_error.pop_all()
    return running


def _source(pipeline: Any, name: str | None) -> Source:
    if isinstance(pipeline, Pipeline):
        return Source(pipeline, project=find_project(Path.cwd()))
    if isinstance(pipeline, str | os.PathLike):
        return load_source(Path(pipeline), name)
    return load_object(pipeline)


def _state(state: AnyPath | None) -> Path:
    return Path(state if state is not None else os.environ.get("INTERMODAL_STATE") or ".intermodal")


def _settings(given: Settings | Mapping[str, Any] | None, project: Path | None) -> Settings:
    if isinstance(given, Settings):
        return given
    return overlay(load_settings(project), given or {})


def _backend(given: str | Backend | Factory | None, project: Path | None, state: Path, settings: Settings) -> Backend:
    given = default_backend() if given is None else given
    options = settings.backends.get(given, {}) if isinstance(given, str) else {}
    place = Place(project or Path.cwd(), state.absolute(), options)
    if isinstance(given, str):
        return make_backend(given, place)
    return given(place) if callable(given) else given


def _argument(value: Any) -> Any:
    return GivenArtifact(value.path, value.uri, value.metadata) if isinstance(value, Artifact) else value


def _names(no_cache: bool | Collection[str]) -> frozenset[str]:
    if isinstance(no_cache, bool):
        return frozenset()
    return frozenset([no_cache] if isinstance(no_cache, str) else no_cache)


def _seconds(timeout: float | str | timedelta | None) -> float | None:
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    return parse_seconds(timeout) if isinstance(timeout, str) else timeout


def _observer(progress: bool | Observer | None) -> Observer:
    if progress is None:
        progress = sys.stderr.isatty() or "ipykernel" in sys.modules
    if isinstance(progress, bool):
        return PlainProgress() if progress else Quiet()
    return progress


class Quiet:
    """An observer that shows nothing."""

    def task(self, path: str, state: State, seconds: float, failure: Failure | None, note: str) -> None:
        """Nothing."""

    def line(self, path: str, line: bytes) -> None:
        """Nothing."""


def _read(state: StateFolder, run_id: str) -> Run:
    database = Database(state.database)
    try:
        return read_run(database, state, run_id)
    finally:
        database.close()
