"""Finding one MLflow run: by its identity, by what it produced or consumed, or by what it says of itself.

Strict: exactly one run, or an error that lists the near misses and says in what they differ. It never falls back to the newest.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from intermodal.errors import BadInput, EnvironmentProblem, ExitCode, IntermodalError
from intermodal.settings import find_project, load_settings
from intermodal.tracking import schema
from intermodal.tracking.find_conditions import FIELDS, Condition, conditions
from intermodal.tracking.find_near import Near, alike, near_misses
from intermodal.tracking.index import Index, IndexedRun, delete_damaged
from intermodal.tracking.index_database import source_of
from intermodal.tracking.index_source import Source
from intermodal.tracking.index_sync import Synced, behind, look_again, rebuild, sync
from intermodal.tracking.rest import Client, Rejected, Unreachable
from intermodal.tracking.target import URI, Target, target

AnyPath = str | os.PathLike[str]
_TIMEOUT = 60.0
_SHOWN = 5


@dataclass(frozen=True)
class FoundRun:
    """The MLflow run that was found."""

    id: str
    """MLflow's id of it, for `mlflow.get_run`."""
    name: str
    experiment: str
    tracking_uri: str
    kind: str
    """`pipeline`, `task` or `trial`; empty for a run that Intermodal did not make. So are the other words below."""
    run: str
    """The run in the state folder that made it."""
    task: str
    component: str
    pipeline: str
    fingerprint: str
    state: str
    """The engine's."""
    status: str
    """MLflow's."""
    started: datetime
    ended: datetime | None
    params: Mapping[str, str]
    metrics: Mapping[str, float | str]
    inputs: Mapping[str, Sequence[str]]
    """Name of an artifact -> digests (`sha256:`)."""
    outputs: Mapping[str, Sequence[str]]
    tags: Mapping[str, str] = field(repr=False)
    index_age: float | None = field(repr=False, compare=False, default=None)
    """Seconds since the index, of which this is the answer, was in step with the server."""

    @property
    def url(self) -> str:
        """Where a browser shows it, empty if the address of the local server is not known: it is not running."""
        return self.tracking_uri and f"{self.tracking_uri}/#/experiments/{self.experiment}/runs/{self.id}"


class NotOneRun(IntermodalError):
    """No run, or several, are what was asked for. `near` are the nearest, each with what it is instead."""

    exit_code = ExitCode.RUN_FAILED

    def __init__(self, message: str, near: Sequence[Near], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.near = tuple(near)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {near}" for near in self.near)])


def find_mlflow_run(
    identity: str | None = None,
    *,
    produced: str | None = None,
    consumed: str | None = None,
    kind: str | None = None,
    run: str | None = None,
    task: str | None = None,
    state: str | None = None,
    pipeline: str | None = None,
    component: str | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Sequence[str] = (),
    cached: bool = False,
    tracking_uri: str | None = None,
    state_folder: AnyPath | None = None,
    refresh: bool = True,
) -> FoundRun:
    """Return the one MLflow run that is all that is asked for.

    Args:
        identity: a fingerprint (or its start, or a name that ends with it).
        produced: the digest of an artifact that the run wrote; tasks are meant, unless `kind` says otherwise.
        consumed: the digest of an artifact that the run read.
        kind: `pipeline`, `task` or `trial`; this and the five that follow are the tags of docs/tracking.md.
        run: the run's id.
        task: the task's path.
        state: the engine's state.
        pipeline: its name.
        component: its name.
        params: by name, each equal.
        tags: by name, each equal.
        metrics: comparisons of last values with numbers: `["validation_macro_f1 >= 0.9"]`.
        cached: count runs of tasks that took another run's result, too; else the one that did the work is meant.
        tracking_uri: default: $MLFLOW_TRACKING_URI, else the local server of the state folder.
        state_folder: where the index is kept. Default: $INTERMODAL_STATE, else `.intermodal`.
        refresh: bring the index in step first, and check the answer with the server. False: what the index knows, without a network;
            see `FoundRun.index_age`.

    Raises NotOneRun (its `near` are the near misses), BadInput, EnvironmentProblem if the server does not answer.
    """
    wanted = _wanted(
        identity,
        produced=produced,
        consumed=consumed,
        params=params,
        tags=tags,
        metrics=metrics,
        fields={"kind": kind, "run": run, "task": task, "state": state, "pipeline": pipeline, "component": component},
    )
    with _prepared(tracking_uri, state_folder, refresh) as place:
        return Finder(place, check=refresh).one(wanted, cached=cached)


def find_mlflow_runs(identity: str | None = None, **asked: Any) -> list[FoundRun]:
    """Return all runs that are what is asked for (a thousand at most), in the order in which they started: none is no error.

    Takes what `find_mlflow_run` takes. Raises BadInput, EnvironmentProblem.
    """
    fields = {name: asked.pop(name, None) for name in FIELDS}
    options = {name: asked.pop(name) for name in ("cached", "tracking_uri", "state_folder", "refresh") if name in asked}
    wanted = _wanted(identity, fields=fields, **asked)
    refresh = options.get("refresh", True)
    with _prepared(options.get("tracking_uri"), options.get("state_folder"), refresh) as place:
        finder = Finder(place, check=refresh)
        return [finder.found(run) for run in finder.all(wanted, cached=options.get("cached", False))]


def _wanted(identity: str | None, *, fields: dict[str, str | None], **asked: Any) -> list[Condition]:
    if (asked.get("produced") or asked.get("consumed")) and fields["kind"] is None:
        fields = {**fields, "kind": "task"}  # the pipeline's own run lists the same artifacts
    wanted = conditions(identity, fields=fields, **asked)
    if not wanted:
        raise BadInput("nothing is asked for", hint="name an identity, a digest, a parameter, a component ...")
    return wanted


def _prepared(tracking_uri: str | None, state_folder: AnyPath | None, refresh: bool) -> Place:
    place = open_index(tracking_uri, state_folder)
    try:
        if refresh:
            place.bring_in_step()
        elif place.index.age is None:
            raise EnvironmentProblem(f"there is no index of {place.index.uri} yet", hint="`intermodal index` makes it")
    except BaseException:
        place.__exit__()
        raise
    return place


@dataclass(frozen=True)
class Status:
    """How far the index can be trusted."""

    runs: int
    age: float | None
    """Seconds since it was in step, None if it never was."""
    behind: int | None
    """Runs of the server (five hundred at most) that started after the newest in the index; None if the server does not answer."""


class Place:
    """An index and the server that it is of. Close it (`with`)."""

    def __init__(self, target: Target, timeout: float = _TIMEOUT) -> None:
        """`timeout`: seconds to wait for an answer of the server."""
        self._target = target
        self._timeout = timeout
        self.index = Index(target.folder, target.shown)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.index.close()

    @property
    def uri(self) -> str:
        """The address, as it may be shown; empty for a local server that is not running."""
        return self._target.known() or ""

    @functools.cached_property
    def client(self) -> Client:
        """Raises EnvironmentProblem if there is no server and none can be started."""
        return Client(self.open(), os.environ, self._timeout)

    @functools.cached_property
    def source(self) -> Source:
        """Where the index gets the server's runs from. Raises as `client` does."""
        return source_of(self.client, self._target.folder)

    def open(self) -> str:
        """Return the address of a server that is there. Raises EnvironmentProblem."""
        return self._target.open()

    def status(self) -> Status:
        """Say how old the index is, and how much the server has that it has not. Changes nothing."""
        try:
            lacks: int | None = behind(self.index, self.source)
        except (Unreachable, Rejected):
            lacks = None
        return Status(len(self.index), self.index.age, lacks)

    def bring_in_step(self, *, all_of_it: bool = False) -> Synced:
        """Bring the index in step. Raises EnvironmentProblem, which says how old the index is, if the server does not answer."""
        try:
            return (rebuild if all_of_it else sync)(self.index, self.source)
        except (Unreachable, Rejected) as error:
            age = self.index.age
            known = "there is no index of it" if age is None else f"the index is {age:.0f} s old"
            raise EnvironmentProblem(
                f"the tracking server does not answer, {known}: {error}",
                hint="--offline (refresh=False) asks the index alone",
            ) from error


def open_index(
    tracking_uri: str | None = None,
    state_folder: AnyPath | None = None,
    *,
    mend: bool = False,
    timeout: float = _TIMEOUT,
) -> Place:
    """Open the index of a tracking server: the one named, that of $MLFLOW_TRACKING_URI or of the settings, else the local one.

    `mend`: a damaged index is deleted first. Raises BadInput, EnvironmentProblem.
    """
    state = Path(state_folder or os.environ.get("INTERMODAL_STATE") or ".intermodal")
    environment = {**os.environ, **({URI: tracking_uri} if tracking_uri else {})}
    wanted = target(load_settings(find_project(Path.cwd())), environment, state)
    if mend:
        delete_damaged(wanted.folder, wanted.shown)
    return Place(wanted, timeout)


class Finder:
    """Look-ups in one index; if `check`, answers are checked with its server."""

    def __init__(self, place: Place, *, check: bool) -> None:
        self._place = place
        self._index = place.index
        self._checks = check

    def one(self, wanted: Sequence[Condition], *, cached: bool = False) -> FoundRun:
        """Return the run. Raises NotOneRun, EnvironmentProblem."""
        runs = self.all(wanted, cached=cached)
        if len(runs) == 1:
            return self.found(runs[0])
        asked = " and ".join(map(str, wanted))
        if runs:
            near = alike(runs[:_SHOWN])
            raise NotOneRun(
                f"{len(runs)} runs are what was asked for ({asked}): {_list(near)}",
                near,
                "ask for what only one of them is",
            )
        near = near_misses(self._index, wanted, cached=cached)
        raise NotOneRun(
            f"no run is what was asked for ({asked}){f'; the nearest: {_list(near)}' if near else ''}",
            near,
            None if near else "`intermodal index --rebuild` reads all of the server again",
        )

    def all(self, wanted: Sequence[Condition], *, cached: bool = False) -> list[IndexedRun]:
        """Return all runs for which the conditions hold (a thousand at most), in the order in which they started."""
        if self._checks:
            self._check(wanted)
        return self._select(wanted, cached=cached)

    def found(self, run: IndexedRun) -> FoundRun:
        return FoundRun(
            id=run.id,
            name=run.name,
            experiment=run.experiment,
            tracking_uri=self._place.uri,
            **{name: run.tag(tag) for name, tag in _WORDS.items()},
            status=run.status,
            started=_time(run.started),
            ended=_time(run.ended) if run.ended else None,
            params=run.params,
            metrics=run.metrics,
            inputs=_full(run.artifacts("input")),
            outputs=_full(run.artifacts("output")),
            tags=run.tags,
            index_age=self._index.age,
        )

    def _select(self, wanted: Sequence[Condition], *, cached: bool) -> list[IndexedRun]:
        clauses, values = [], []
        for condition in wanted:
            clause, more = condition.sql()
            clauses.append(f"({clause})")
            values += more
        if not cached:
            clauses.append("cached_from IS NULL")
        return self._index.select(" AND ".join(clauses), values)

    def _check(self, wanted: Sequence[Condition]) -> None:
        """Ask the server the same: what it knows better goes into the index. Raises EnvironmentProblem."""
        words = [text for condition in wanted if (text := condition.filter()) is not None]
        if not words:
            return
        before = {run.id for run in self._select(wanted, cached=True)}
        try:
            source = self._place.source
            experiments = source.experiments()
            page = next(self._place.client.search(experiments, " AND ".join(words)))
            runs = page.get("runs", [])
            self._index.put(runs)
            if not page.get("next_page_token"):
                unsaid = before - {run["info"]["run_id"] for run in runs}
                look_again(self._index, source, experiments, sorted(unsaid))
        except Unreachable as error:
            raise EnvironmentProblem(f"the tracking server does not answer: {error}") from error
        except Rejected as error:
            raise EnvironmentProblem(f"the tracking server refuses the look-up: {error}") from error


_WORDS = {
    "kind": schema.KIND,
    "run": schema.RUN,
    "task": schema.TASK,
    "component": schema.COMPONENT,
    "pipeline": schema.PIPELINE,
    "fingerprint": schema.FINGERPRINT,
    "state": schema.STATE,
}


def _list(near: Sequence[Near]) -> str:
    return "; ".join(map(str, near))


def _full(artifacts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: [f"sha256:{digest}" for digest in digests] for name, digests in artifacts.items()}


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
