"""Resolving a task's inputs: references followed, constants substituted once, types and defaults applied.

Source: `driver/resolve.go` of the KFP backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from intermodal.bounded import parse_json
from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.placeholders import Context, resolve, resolve_value
from intermodal.engine.values import coerce, shorten, text
from intermodal.errors import BadInput
from intermodal.selectors import select
from intermodal.spec.document import plain
from intermodal.spec.types import Component, Constant, Dag, FinalStatus, FromInput, FromTask, Source, Task, Value

MISSING = object()
"""Stands for an input that nobody gave: an optional one left out, or the output of a task that did not run."""


class Scope:
    """What a task's references can reach: the inputs of the component around it, and the tasks beside it."""

    def __init__(
        self,
        inputs: Inputs,
        parameter_of: Callable[[str, str], Value],
        artifacts_of: Callable[[str, str], Sequence[Artifact] | None],
        status_of: Callable[[str], Value],
        job: Mapping[str, str],
    ) -> None:
        self.inputs = inputs
        self.parameter_of = parameter_of
        self.artifacts_of = artifacts_of
        self.status_of = status_of
        self.job = job

    def parameter(self, source: Source) -> Value:
        """Return the value of `source`, MISSING if nobody gave one. Constants are returned as they stand."""
        if isinstance(source, Constant):
            return source.value
        if isinstance(source, FinalStatus):
            return self.status_of(source.task)
        if isinstance(source, FromTask):
            value = self.parameter_of(source.task, source.output)
        else:
            value = self.inputs.parameters.get(source.name, self.inputs.channels.get(source.name, MISSING))
        return value if value is MISSING or not source.selector else select(value, source.selector)

    def artifacts(self, source: Source) -> Sequence[Artifact] | None:
        """Return the artifacts of `source`, None if nobody made them."""
        if isinstance(source, FromTask):
            return self.artifacts_of(source.task, source.output)
        if isinstance(source, FromInput):
            return self.inputs.artifacts.get(source.name)
        raise BadInput("an artifact input refers to neither an input nor a task")


def outer_scope(job: Mapping[str, str]) -> Scope:
    """Return what a pipeline itself can refer to: nothing but its job's names."""

    def nothing(*_: str) -> Value:
        raise AssertionError("a pipeline has no sibling tasks")

    return Scope(Inputs(), nothing, nothing, nothing, job)


def task_names(job: Mapping[str, str], task: str, path: str) -> dict[str, str]:
    """Return what the placeholders of job and task mean, e.g. `pipeline_task_name`."""
    return {**job, "pipeline_task_name": task, "pipeline_task_uuid": f"{job.get('pipeline_job_uuid', '')}/{path}"}


def raw_inputs(task: Task, scope: Scope, path: str) -> Inputs:
    """Return the task's inputs before types and defaults; absent ones are left out. Raises BadInput."""
    parameters: dict[str, Value] = {}
    constants: dict[str, Value] = {}
    for name, source in task.parameters.items():
        value = scope.parameter(source)
        if value is not MISSING:
            (constants if isinstance(source, Constant) else parameters)[name] = value
    context = Context(parameters=dict(parameters), job=task_names(scope.job, task.name, path))
    for name, template in constants.items():
        parameters[name] = resolve_value(template, context) if isinstance(template, str) else _filled(template, context)
    artifacts = {name: scope.artifacts(source) for name, source in task.artifacts.items()}
    return Inputs(parameters, {name: tuple(items) for name, items in artifacts.items() if items is not None})


def _filled(template: Value, context: Context) -> Value:
    """Return a list or struct with the placeholders in its texts replaced; each text stays text, as in the KFP launcher."""
    if isinstance(template, str):
        return resolve(template, context)
    if isinstance(template, list):
        return [_filled(item, context) for item in template]
    if isinstance(template, dict):
        return {key: _filled(item, context) for key, item in template.items()}
    return template


def bind(component: Component, given: Inputs, place: str, *, inner: bool = True) -> Inputs:
    """Return `given` as the component declares it: coerced, defaults applied, the rest as channels.

    A DAG inside the pipeline (`inner`) may lack what it declares: the compiler declares the channels of a group as required even
    where an optional argument was left out, or a loop has taken its items away. The task that needs the value is the judge.
    Raises BadInput naming `place` if a required input is missing or a value has the wrong type.
    """
    lenient = inner and isinstance(component.implementation, Dag)
    parameters: dict[str, Value] = {}
    for name, declared in component.input_parameters.items():
        value = given.parameters.get(name)
        if value is None and declared.has_default:
            value = declared.default
        if value is not None:
            parameters[name] = coerce(value, declared.type, f"{place}: input {name!r}")
            if declared.literals and parameters[name] not in declared.literals:
                allowed = ", ".join(map(text, declared.literals))
                raise BadInput(f"{place}: input {name!r} is {shorten(value)}; allowed are {allowed}")
        elif not (declared.optional or lenient):
            raise BadInput(f"{place}: required input {name!r} has no value")
    for name, artifact in component.input_artifacts.items():
        if name not in given.artifacts and not (artifact.optional or lenient):
            raise BadInput(f"{place}: required input artifact {name!r} is missing")
    channels = {name: value for name, value in given.parameters.items() if name not in component.input_parameters}
    return Inputs(parameters, dict(given.artifacts), channels)


def loop_items(task: Task, component: Component, inputs: Inputs, place: str) -> list[Inputs]:
    """Return the inputs of each iteration of `component`: the items input taken out, the item put in. Raises BadInput.

    The items stay where a task inside takes them: so the SDK compiles a loop over a list within a loop over the same list. (KFP's
    driver takes them out even so, and the inner loop fails.)
    """
    iterator = task.iterator
    if iterator is None:
        raise AssertionError("only a loop has items")
    source = iterator.input or ""
    given = inputs.artifacts if iterator.over_artifacts else inputs.parameters
    if iterator.raw is None and given.get(source) is None:
        raise BadInput(f"{place}: loops over its input {source!r}, which has no value")
    gone = set() if _takes(component, source) else {source}
    if iterator.over_artifacts:
        rest = {key: value for key, value in inputs.artifacts.items() if key not in gone}
        return [Inputs(inputs.parameters, {**rest, iterator.item: (item,)}) for item in inputs.artifacts[source]]
    items: Value = list(iterator.raw) if iterator.raw is not None else inputs.parameters[source]
    if isinstance(items, str):
        try:
            items = plain(parse_json(items))
        except ValueError as error:
            raise BadInput(f"{place}: loops over {shorten(items)}, which is not a list") from error
    if not isinstance(items, list):
        raise BadInput(f"{place}: loops over {shorten(items)}, which is not a list")
    others = {name: value for name, value in inputs.parameters.items() if name not in gone}
    return [Inputs({**others, iterator.item: item}, inputs.artifacts) for item in items]


def _takes(component: Component, name: str) -> bool:
    """Whether a task inside of a graph refers to the graph's input `name`."""
    dag = component.implementation
    tasks = dag.tasks.values() if isinstance(dag, Dag) else ()
    sources = (source for task in tasks for source in (*task.parameters.values(), *task.artifacts.values()))
    return any(isinstance(source, FromInput) and source.name == name for source in sources)
