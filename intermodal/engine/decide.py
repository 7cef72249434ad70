"""What the outcome of some tasks means for another: whether it runs, with which inputs, and what a group of tasks gave.

Pure functions, so that whoever orchestrates decides alike: the graph of a local run, which sees all tasks, and a launcher in a
cluster, which sees only those before its own. Source: `driver/` and `argocompiler/dag.go` of the KFP backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from intermodal.conditions import evaluate, parameter_names, plain_name, readable
from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.resolve import MISSING, Scope, bind, loop_items, raw_inputs
from intermodal.engine.states import State
from intermodal.engine.values import shorten
from intermodal.errors import BadInput
from intermodal.spec.types import Component, Dag, FromTask, Task, TriggerStrategy, Value


class Ended(Protocol):
    """A final task, or one instance of it, as the others see it."""

    @property
    def state(self) -> State: ...

    @property
    def outputs(self) -> Outputs: ...

    def why(self) -> str:
        """Why it failed: the path of what failed first in it, by order, and its failure; empty if nothing did."""


@dataclass(frozen=True)
class Result:
    """The plainest `Ended`."""

    state: State
    outputs: Outputs = field(default_factory=Outputs)
    error: str = ""

    def why(self) -> str:
        return self.error


@dataclass(frozen=True)
class Instance:
    """One instance of a task. One that cannot be given its inputs has failed already."""

    path: str
    inputs: Inputs
    failure: Failure | None = None


@dataclass(frozen=True)
class Skipped:
    """A task that does not run, and why."""

    reason: str


def held_back(task: Task, tasks: Mapping[str, Ended]) -> Skipped | None:
    """Return why a task all of whose dependencies are final does not run because of them, None if it may."""
    if task.strategy is not TriggerStrategy.ALL_SUCCEEDED:
        return None
    for name in task.dependencies:
        if not tasks[name].state.green:
            return Skipped(f"upstream {name} {_WORDS[tasks[name].state]}")
    return None


_WORDS = {State.FAILED: "failed", State.SKIPPED: "was skipped", State.CANCELLED: "was cancelled"}


def instances(task: Task, component: Component, path: str, scope: Scope) -> Sequence[Instance] | Skipped:
    """Return the instances that a task stands for: one, or one for each item of its loop; or that its condition is false.

    Raises BadInput naming the path if the condition or the inputs are wrong.
    """
    inputs = raw_inputs(task, scope, path)
    if task.iterator is None:
        inputs = bind(component, inputs, path)
    tested = {**inputs.channels, **inputs.parameters}
    if task.condition and not evaluate(task.condition, tested, path):
        return Skipped(unmet(task.condition, tested))
    if task.iterator is None:
        return [Instance(path, inputs)]
    items = enumerate(loop_items(task, component, inputs, path))
    return [_iteration(component, item, f"{path}/{index}") for index, item in items]


def _iteration(component: Component, given: Inputs, path: str) -> Instance:
    try:
        return Instance(path, bind(component, given, path))
    except BadInput as error:
        return Instance(path, Inputs(), Failure(FailureClass.USER_CODE, error.message))


def unmet(condition: str, parameters: Mapping[str, Value]) -> str:
    """Say that a condition was false, and of which values."""
    names = parameter_names(condition)
    given = ", ".join(f"{plain_name(name)} = {shorten(parameters.get(name))}" for name in names)
    return f"its condition was false: {readable(condition)}" + (f", with {given}" if given else "")


def loop_result(component: Component, iterations: Sequence[Ended]) -> Result:
    """Collect a finished loop: outputs in index order; an iteration that gave nothing contributes nothing."""
    parameters: dict[str, list[Value]] = {name: [] for name in component.output_parameters}
    artifacts: dict[str, list[Artifact]] = {name: [] for name in component.output_artifacts}
    for iteration in iterations:
        for name, value in iteration.outputs.parameters.items():
            parameters[name].append(value)
        for name, items in iteration.outputs.artifacts.items():
            artifacts[name].extend(items)
    return Result(_together(iterations), Outputs(parameters, artifacts), first_error(iterations))


def dag_result(dag: Dag, tasks: Mapping[str, Ended]) -> Result:
    """Return what a DAG all of whose tasks are final gave; an output that nobody made is not in it."""
    parameters = {name: first_parameter(tasks, sources) for name, sources in dag.parameter_outputs.items()}
    artifacts = {name: first_artifacts(tasks, sources) for name, sources in dag.artifact_outputs.items()}
    outputs = Outputs(
        {name: value for name, value in parameters.items() if value is not MISSING},
        {name: items for name, items in artifacts.items() if items is not None},
    )
    ended = [tasks[name] for name in dag.tasks]
    return Result(_together(ended), outputs, first_error(ended))


def first_error(ended: Sequence[Ended]) -> str:
    """Return why the first of them that failed did, empty if none failed."""
    return next((item.why() for item in ended if item.state is State.FAILED), "")


def _together(ended: Sequence[Ended]) -> State:
    """Return the state of a group: failed if anything failed, cancelled if anything was, else succeeded if anything ran.

    A group in which nothing had to run (an empty loop too) is cached, so that a run says truly whether it did any work.
    """
    states = {item.state for item in ended}
    for state in (State.FAILED, State.CANCELLED, State.SUCCEEDED):
        if state in states:
            return state
    return State.CACHED


def scope_of(inputs: Inputs, tasks: Mapping[str, Ended], job: Mapping[str, str], success_word: str) -> Scope:
    """Return what the references of a DAG's tasks reach: the DAG's own inputs and the tasks that are final."""
    return Scope(
        inputs=inputs,
        parameter_of=lambda task, output: first_parameter(tasks, (FromTask(task, output),)),
        artifacts_of=lambda task, output: first_artifacts(tasks, (FromTask(task, output),)),
        status_of=lambda task: final_status(task, tasks[task], job, success_word),
        job=job,
    )


def first_parameter(tasks: Mapping[str, Ended], sources: Sequence[FromTask]) -> Value:
    """Return the value of the first source that has one (OneOf: the branch that ran), else MISSING."""
    for source in sources:
        outputs = tasks[source.task].outputs
        if source.output in outputs.parameters:
            return outputs.parameters[source.output]
    return MISSING


def first_artifacts(tasks: Mapping[str, Ended], sources: Sequence[FromTask]) -> Sequence[Artifact] | None:
    """Return the artifacts of the first source that has them, else None."""
    for source in sources:
        outputs = tasks[source.task].outputs
        if source.output in outputs.artifacts:
            return outputs.artifacts[source.output]
    return None


def final_status(name: str, task: Ended, job: Mapping[str, str], success_word: str) -> Value:
    """Return PipelineTaskFinalStatus; `success_word` is how success is spelled (KFP's open-source backend: COMPLETE)."""
    words = {State.FAILED: "FAILED", State.CANCELLED: "CANCELLED", State.SKIPPED: "SKIPPED"}
    return {
        "state": words.get(task.state, success_word),
        "pipelineJobResourceName": job.get("pipeline_job_resource_name", ""),
        "pipelineTaskName": name,
        "error": {"message": task.why()} if task.state is State.FAILED else {},
    }
