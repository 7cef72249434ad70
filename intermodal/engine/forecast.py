"""What a run would do: each task cached, to run, skipped, or not known yet. Nothing is started and nothing recorded.

Tasks are walked in order with what those before them are known to give. An output that is still to be made is *pending*, and so is
whatever depends on it. A task that would run is taken to succeed.
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from intermodal.conditions import evaluate, parameter_names
from intermodal.engine.artifacts import Inputs, Outputs
from intermodal.engine.changes import Change
from intermodal.engine.claims import DELETE, is_claim_operation
from intermodal.engine.decide import Instance, Skipped, instances, unmet
from intermodal.engine.graph import Node, Work
from intermodal.engine.importer import imported, resolve_importer
from intermodal.engine.outlook import Outlook
from intermodal.engine.pending import (
    NotYetKnown,
    Outcome,
    PartialScope,
    Pending,
    Place,
    all_leaves,
    all_pending,
    dag_outcome,
    defaults,
    known_inputs,
    loop_outcome,
    tasks_of,
)
from intermodal.engine.resolve import bind, loop_items, outer_scope
from intermodal.engine.resources import Demand
from intermodal.engine.states import State
from intermodal.engine.store import BadContent
from intermodal.errors import IntermodalError
from intermodal.spec.types import (
    Component,
    Container,
    Dag,
    Importer,
    Pipeline,
    Task,
    TriggerStrategy,
)

_DOUBT = "whether it runs depends on"


class Verdict(StrEnum):
    CACHED = "cached"
    RUN = "run"
    SKIP = "skip"
    FAIL = "fail"
    """It fails before it starts, whatever the tasks before it give."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Expected:
    """What is expected of one task: a leaf, or a group that cannot be looked into yet."""

    path: str
    component: str
    verdict: Verdict
    reason: str
    changes: tuple[Change, ...] = ()
    """What differs from the last run of this task."""
    seconds: float | None = None
    """How long it took before, None if it never succeeded."""
    cached_from: str | None = None
    waits_for: tuple[str, ...] = ()
    """The tasks on whose outcome it depends what becomes of this one."""
    demand: Demand = field(default_factory=Demand)
    after: frozenset[str] = frozenset()
    """What must end before this begins: other rows of the forecast, without what those wait for themselves."""


class Forecaster:
    """Walks one pipeline. `rows` has what was found so far, in the order of the walk."""

    def __init__(self, pipeline: Pipeline, outlook: Outlook, success_word: str) -> None:
        """`success_word` is what a final status calls success."""
        self._pipeline = pipeline
        self._success_word = success_word
        self._outlook = outlook
        self._root = Work("", pipeline.root, Inputs(), None, outer_scope(outlook.planner.names))
        self.rows: list[Expected] = []

    def walk(self, inputs: Inputs) -> list[Expected]:
        """Return what is expected of every task. Raises BadInput if the pipeline's own inputs are wrong."""
        bound = bind(self._pipeline.root, inputs, f"pipeline {self._pipeline.name}", inner=False)
        self._dag(Place("", self._pipeline.root, bound, {}, frozenset()))
        return self.rows

    # Groups

    def _dag(self, place: Place) -> Outcome:
        dag = place.component.implementation
        if not isinstance(dag, Dag):
            raise AssertionError("only a DAG has tasks")
        outcomes: dict[str, Outcome] = {}
        paths = {name: f"{place.path}/{name}" if place.path else name for name in dag.tasks}
        planner = self._outlook.planner
        scope = PartialScope(place, outcomes, paths, planner.names, self._success_word)
        for name in graphlib.TopologicalSorter(
            {name: task.dependencies for name, task in dag.tasks.items()}
        ).static_order():
            task = dag.tasks[name]
            after = all_leaves(place.after, [outcomes[other] for other in task.dependencies])
            outcomes[name] = self._task(task, paths[name], scope, outcomes, paths, after)
        return dag_outcome(dag, outcomes, place.after)

    def _task(
        self,
        task: Task,
        path: str,
        scope: PartialScope,
        outcomes: Mapping[str, Outcome],
        paths: Mapping[str, str],
        after: frozenset[str],
    ) -> Outcome:
        component = self._pipeline.component(task)
        row = Expected(path, component.name, Verdict.UNKNOWN, "", after=after)
        doubtful: frozenset[str] = frozenset()
        if task.strategy is TriggerStrategy.ALL_SUCCEEDED:
            for name in task.dependencies:
                if outcomes[name].state in (State.SKIPPED, State.FAILED):
                    word = "is skipped" if outcomes[name].state is State.SKIPPED else "fails"
                    return self._skip(row, f"upstream {name} {word}")
            doubtful = frozenset(paths[name] for name in task.dependencies if outcomes[name].state is None)
        try:
            given, pending = known_inputs(task, scope, path)
            if pending:
                return self._partly_known(row, task, component, given, pending, scope, doubtful)
            found = instances(task, component, path, scope)
            if isinstance(found, Skipped):
                return self._skip(row, found.reason)
            if doubtful:
                return self._unknown(row, component, doubtful, _DOUBT, state=None)
        except IntermodalError as error:
            return self._fail(row, error.message)
        ended = [self._instance(replace(row, path=item.path), task, component, item, scope) for item in found]
        return ended[0] if task.iterator is None else loop_outcome(component, ended, row.after)

    def _instance(
        self, row: Expected, task: Task, component: Component, instance: Instance, scope: PartialScope
    ) -> Outcome:
        """Follow an instance whose inputs are known."""
        if instance.failure is not None:
            return self._fail(row, instance.failure.message)
        if isinstance(component.implementation, Dag):
            return self._dag(Place(instance.path, component, instance.inputs, {}, row.after))
        node = Node(task, component, instance.path, self._root, 0)
        try:
            return self._leaf(row, Work(instance.path, component, instance.inputs, node, scope))
        except NotYetKnown as error:
            return self._unknown(row, component, error.tasks, "what it needs is made by")
        except IntermodalError as error:
            return self._fail(row, error.message)

    def _partly_known(
        self,
        row: Expected,
        task: Task,
        component: Component,
        given: Inputs,
        pending: Mapping[str, Pending],
        scope: PartialScope,
        doubtful: frozenset[str],
    ) -> Outcome:
        """Follow a task some of whose inputs are still to be made. Raises BadInput."""
        wanted = [pending[name] for name in parameter_names(task.condition) if name in pending]
        if task.condition and not wanted:
            tested = {**defaults(component), **given.parameters}
            if not evaluate(task.condition, tested, row.path):
                return self._skip(row, unmet(task.condition, tested))
        doubtful |= tasks_of(wanted)
        if doubtful:
            return self._unknown(row, component, doubtful, _DOUBT, state=None)
        if task.iterator is None:
            return self._partial_instance(row, task, component, given, pending)
        if task.iterator.input is not None and task.iterator.input in pending:
            return self._unknown(row, component, pending[task.iterator.input].tasks, "what it loops over is made by")
        ended = [
            self._partial_instance(replace(row, path=f"{row.path}/{index}"), task, component, item, pending)
            for index, item in enumerate(loop_items(task, component, given, row.path))
        ]
        return loop_outcome(component, ended, row.after)

    def _partial_instance(
        self, row: Expected, task: Task, component: Component, given: Inputs, pending: Mapping[str, Pending]
    ) -> Outcome:
        """Follow an instance some of whose inputs are still to be made: in a group of tasks, not all may need them."""
        if not isinstance(component.implementation, Dag):
            return self._waiting(row, task, component, tasks_of(pending.values()))
        try:
            bound = bind(component, given, row.path)
        except IntermodalError as error:
            return self._fail(row, error.message)
        known = {name: value for name, value in bound.parameters.items() if name not in pending}
        return self._dag(Place(row.path, component, replace(bound, parameters=known), pending, row.after))

    # Leaves

    def _waiting(self, row: Expected, task: Task, component: Component, tasks: frozenset[str]) -> Outcome:
        """Judge a leaf whose inputs are not known: only where no cache can answer is it clear that it runs."""
        anyway = self._outlook.runs_anyway(task, row.path) if isinstance(component.implementation, Container) else None
        if anyway is None:
            return self._unknown(row, component, tasks, "its inputs are made by")
        seconds = self._seconds(row)
        self._add(replace(row, verdict=Verdict.RUN, reason=anyway, seconds=seconds, waits_for=tuple(sorted(tasks))))
        return all_pending(component, State.SUCCEEDED, row.path)

    def _leaf(self, row: Expected, work: Work) -> Outcome:
        """Decide a leaf whose inputs are known. Raises IntermodalError, NotYetKnown."""
        if isinstance(work.component.implementation, Importer):
            return self._import(row, work, work.component.implementation)
        if is_claim_operation(work):
            return self._claim(row, work)
        seen = self._outlook.decide(work)
        row = replace(row, reason=seen.reason, changes=seen.changes, seconds=self._seconds(row), demand=seen.demand)
        if seen.twin is not None:
            return self._unknown(row, work.component, frozenset({seen.twin}), seen.reason)
        if seen.entry is not None:
            cached_from = f"{seen.entry.run}/{seen.entry.path}"
            self._add(replace(row, verdict=Verdict.CACHED, cached_from=cached_from))
            self._outlook.remember(row.path, seen.entry.outputs)
            return self._known(State.CACHED, row, seen.entry.outputs)
        if seen.unprepared:
            self._add(row)
        else:
            self._add(replace(row, verdict=Verdict.RUN))
        return all_pending(work.component, State.SUCCEEDED, row.path)

    def _import(self, row: Expected, work: Work, importer: Importer) -> Outcome:
        uri, metadata = resolve_importer(importer, work.inputs, self._outlook.planner.names, work.path)
        row = replace(row, verdict=Verdict.RUN, reason=f"reads {uri} anew each time", seconds=self._seconds(row))
        try:
            digest = self._outlook.content(uri)
        except (BadContent, OSError) as error:
            return self._fail(row, f"{uri} cannot be imported: {getattr(error, 'strerror', None) or error}")
        self._add(row)
        if digest is None:
            return all_pending(work.component, State.SUCCEEDED, row.path)
        artifact = imported(importer, uri, digest, metadata)
        outputs = Outputs(artifacts=dict.fromkeys(work.component.output_artifacts, (artifact,)))
        self._outlook.remember(row.path, outputs)
        return self._known(State.SUCCEEDED, row, outputs)

    def _claim(self, row: Expected, work: Work) -> Outcome:
        container, name = work.component.implementation, str(work.inputs.parameters.get("pvc_name") or "")
        deletes = isinstance(container, Container) and container.image == DELETE
        reason = f"{'deletes' if deletes else 'makes'} a claim, each time"
        self._add(replace(row, verdict=Verdict.RUN, reason=reason, seconds=0.0))
        if deletes or name:
            return self._known(State.SUCCEEDED, row, Outputs() if deletes else Outputs({"name": name}))
        return all_pending(work.component, State.SUCCEEDED, row.path)

    # Rows

    def _add(self, row: Expected) -> None:
        self.rows.append(row)

    def _seconds(self, row: Expected) -> float | None:
        return self._outlook.usual_seconds(row.path, row.component)

    def _known(self, state: State, row: Expected, outputs: Outputs) -> Outcome:
        return Outcome(state, frozenset({row.path}), outputs.parameters, outputs.artifacts)

    def _skip(self, row: Expected, reason: str) -> Outcome:
        self._add(replace(row, verdict=Verdict.SKIP, reason=reason))
        return Outcome(State.SKIPPED, frozenset({row.path}))

    def _fail(self, row: Expected, reason: str) -> Outcome:
        self._add(replace(row, verdict=Verdict.FAIL, reason=reason))
        return Outcome(State.FAILED, frozenset({row.path}), problem=f"{row.path}: {reason}")

    def _unknown(
        self,
        row: Expected,
        component: Component,
        tasks: frozenset[str],
        reason: str,
        state: State | None = State.SUCCEEDED,
    ) -> Outcome:
        waits = tuple(sorted(tasks))
        text = f"{reason} {', '.join(waits)}"
        self._add(replace(row, reason=text, waits_for=waits, seconds=self._seconds(row)))
        return all_pending(component, state, row.path)
