"""Values that are still to be made, and what follows from them: the bookkeeping behind a forecast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.decide import Result, final_status
from intermodal.engine.placeholders import parameter_names
from intermodal.engine.resolve import MISSING, Scope, raw_inputs
from intermodal.engine.states import State
from intermodal.spec.types import (
    Component,
    Constant,
    Dag,
    FinalStatus,
    FromInput,
    FromTask,
    Source,
    Task,
    Value,
)


class NotYetKnown(Exception):
    """A value that only the run itself can tell."""

    def __init__(self, tasks: frozenset[str]) -> None:
        super().__init__()
        self.tasks = tasks


@dataclass(frozen=True)
class Pending:
    """Stands for a value that these tasks are still to make."""

    tasks: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """What a task is known to come to. `state` None: it may run or be skipped."""

    state: State | None
    leaves: frozenset[str]
    """What must have ended when this has ended."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Values, or Pending. An output that nobody makes is not in it."""
    artifacts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    """Why it fails, if it does."""


@dataclass(frozen=True)
class Place:
    """An instance of a component: where it stands, what it is given, what it waits for."""

    path: str
    component: Component
    inputs: Inputs
    pending: Mapping[str, Pending]
    after: frozenset[str]


class PartialScope(Scope):
    """What a task's references reach. Asked for a pending value it raises NotYetKnown."""

    def __init__(
        self,
        place: Place,
        outcomes: Mapping[str, Outcome],
        paths: Mapping[str, str],
        job: Mapping[str, str],
        word: str,
    ) -> None:
        super().__init__(place.inputs, self._parameter_of, self._artifacts_of, self._status_of, job)
        self._pending, self._outcomes, self._paths, self._word = place.pending, outcomes, paths, word

    def waits(self, source: Source) -> Pending | None:
        """Return what the value of `source` waits for, None if it is known."""
        if isinstance(source, FromInput):
            return self._pending.get(source.name)
        if isinstance(source, FromTask):
            outcome = self._outcomes[source.task]
            value = outcome.parameters.get(source.output, outcome.artifacts.get(source.output))
            return value if isinstance(value, Pending) else None
        if isinstance(source, FinalStatus) and self._outcomes[source.task].state in (None, State.SUCCEEDED):
            return Pending(frozenset({self._paths[source.task]}))
        return None

    def parameter(self, source: Source) -> Value:
        self._require(source)
        return super().parameter(source)

    def artifacts(self, source: Source) -> Sequence[Artifact] | None:
        self._require(source)
        return super().artifacts(source)

    def _require(self, source: Source) -> None:
        pending = self.waits(source)
        if pending is not None:
            raise NotYetKnown(pending.tasks)

    def _parameter_of(self, task: str, output: str) -> Value:
        return self._outcomes[task].parameters.get(output, MISSING)

    def _artifacts_of(self, task: str, output: str) -> Sequence[Artifact] | None:
        found: Sequence[Artifact] | None = self._outcomes[task].artifacts.get(output)
        return found

    def _status_of(self, task: str) -> Value:
        outcome = self._outcomes[task]
        known = Result(outcome.state or State.SUCCEEDED, error=outcome.problem)
        return final_status(task, known, self.job, self._word)


def all_pending(component: Component, state: State | None, path: str) -> Outcome:
    waits = Pending(frozenset({path}))
    return Outcome(
        state,
        frozenset({path}),
        dict.fromkeys(component.output_parameters, waits),
        dict.fromkeys(component.output_artifacts, waits),
    )


def known_inputs(task: Task, scope: PartialScope, path: str) -> tuple[Inputs, dict[str, Pending]]:
    """Return the inputs that are known, and what the others wait for. Raises BadInput."""
    sources = {**task.parameters, **task.artifacts}
    pending = {name: waits for name, source in sources.items() if (waits := scope.waits(source)) is not None}
    for name, source in task.parameters.items():
        if isinstance(source, Constant):
            within = [pending[other] for other in _referred(source.value) if other in pending]
            if within:
                pending[name] = Pending(tasks_of(within))
    known = replace(
        task,
        parameters={name: source for name, source in task.parameters.items() if name not in pending},
        artifacts={name: source for name, source in task.artifacts.items() if name not in pending},
    )
    return raw_inputs(known, scope, path), pending


def _referred(value: Value) -> set[str]:
    """Return the inputs that the placeholders in a constant name, at any depth."""
    if isinstance(value, str):
        return parameter_names(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_referred, parts))


def defaults(component: Component) -> dict[str, Value]:
    return {name: item.default for name, item in component.input_parameters.items() if item.has_default}


def all_leaves(before: frozenset[str], outcomes: Iterable[Outcome]) -> frozenset[str]:
    """Return what must have ended when all of the outcomes have; if there is none, what came before."""
    return frozenset().union(*(outcome.leaves for outcome in outcomes)) or before


def tasks_of(pending: Iterable[Pending]) -> frozenset[str]:
    return frozenset().union(*(item.tasks for item in pending))


def dag_outcome(dag: Dag, tasks: Mapping[str, Outcome], before: frozenset[str]) -> Outcome:
    """Return what a DAG comes to: each output is that of the first source which has, or may have, one."""
    return Outcome(
        _together(tasks.values()),
        all_leaves(before, tasks.values()),
        _first({name: outcome.parameters for name, outcome in tasks.items()}, dag.parameter_outputs),
        _first({name: outcome.artifacts for name, outcome in tasks.items()}, dag.artifact_outputs),
        _problem(tasks[name] for name in dag.tasks),
    )


def loop_outcome(component: Component, iterations: Sequence[Outcome], before: frozenset[str]) -> Outcome:
    """Return what a loop comes to: what its iterations gave, in their order."""
    parameters = [item.parameters for item in iterations]
    artifacts = [item.artifacts for item in iterations]
    return Outcome(
        _together(iterations),
        all_leaves(before, iterations),
        {name: _collected(parameters, name) for name in component.output_parameters},
        {name: _collected(artifacts, name, flat=True) for name in component.output_artifacts},
        _problem(iterations),
    )


def _together(outcomes: Iterable[Outcome]) -> State:
    """Return the state of a group, as `decide` does: what may or may not run inside does not make it fail."""
    found = {outcome.state for outcome in outcomes}
    if State.FAILED in found:
        return State.FAILED
    return State.SUCCEEDED if found & {State.SUCCEEDED, None} else State.CACHED


def _problem(outcomes: Iterable[Outcome]) -> str:
    return next((outcome.problem for outcome in outcomes if outcome.state is State.FAILED), "")


def _first(outputs: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Sequence[FromTask]]) -> dict[str, Any]:
    found = {}
    for name, sources in wanted.items():
        given = [outputs[source.task][source.output] for source in sources if source.output in outputs[source.task]]
        if given:
            found[name] = given[0]
    return found


def _collected(items: Sequence[Mapping[str, Any]], name: str, *, flat: bool = False) -> Any:
    given = [item[name] for item in items if name in item]
    waiting = [value for value in given if isinstance(value, Pending)]
    if waiting:
        return Pending(tasks_of(waiting))
    return [part for value in given for part in value] if flat else given
