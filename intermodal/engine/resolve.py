"""Resolving a task's inputs: references followed, constants substituted once, types and defaults applied.

Source: `driver/resolve.go` of the KFP backend.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from intermodal.bounded import parse_json
from intermodal.engine.artifacts import Artifact, Inputs
from intermodal.engine.placeholders import Context, references, resolve_value
from intermodal.engine.values import coerce, shorten, text
from intermodal.errors import BadInput
from intermodal.spec.types import Component, Constant, Dag, FinalStatus, FromInput, FromTask, Source, Task, Value

_STEP = re.compile(r"\[(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<index>\d+))\]")

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


def raw_inputs(task: Task, scope: Scope) -> Inputs:
    """Return the task's inputs before types and defaults; absent ones are left out. Raises BadInput."""
    parameters: dict[str, Value] = {}
    templates: dict[str, str] = {}
    for name, source in task.parameters.items():
        value = scope.parameter(source)
        if value is MISSING:
            continue
        if isinstance(source, Constant) and isinstance(value, str) and references(value):
            templates[name] = value
        else:
            parameters[name] = value
    context = Context(parameters=dict(parameters), job={**scope.job, "pipeline_task_name": task.name})
    for name, template in templates.items():
        parameters[name] = resolve_value(template, context)
    artifacts = {name: scope.artifacts(source) for name, source in task.artifacts.items()}
    return Inputs(parameters, {name: tuple(items) for name, items in artifacts.items() if items is not None})


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


def select(value: Value, selector: str) -> Value:
    """Evaluate a parameter expression selector: `parseJson(string_value)` followed by `["key"]` or `[0]` steps.

    That is all that the SDK emits. Raises BadInput for anything else, or where a step leads nowhere.
    """
    prefix = "parseJson(string_value)"
    rest = selector.strip()
    if not rest.startswith(prefix):
        raise BadInput(f"parameter expression {selector!r} is not supported")
    rest = rest[len(prefix) :]
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            raise BadInput(f"parameter expression {selector!r}: {shorten(value)} is not JSON") from error
    while rest:
        match = _STEP.match(rest)
        if not match:
            raise BadInput(f"parameter expression {selector!r} is not supported")
        key: str | int = int(match["index"]) if match["index"] is not None else match["double"] or match["single"] or ""
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError) as error:
            raise BadInput(f"parameter expression {selector!r}: {shorten(value)} has no {key!r}") from error
        rest = rest[match.end() :]
    return value


def loop_items(task: Task, inputs: Inputs, place: str) -> list[Inputs]:
    """Return the inputs of each iteration: the items input taken out, the item put in. Raises BadInput."""
    iterator = task.iterator
    if iterator is None:
        raise AssertionError("only a loop has items")
    if iterator.over_artifacts:
        return _artifact_items(iterator.input or "", iterator.item, inputs)
    items: Value = list(iterator.raw) if iterator.raw is not None else inputs.parameters.get(iterator.input or "", [])
    if isinstance(items, str):
        try:
            items = parse_json(items)
        except ValueError as error:
            raise BadInput(f"{place}: loops over {shorten(items)}, which is not a list") from error
    if not isinstance(items, list):
        raise BadInput(f"{place}: loops over {shorten(items)}, which is not a list")
    rest = {name: value for name, value in inputs.parameters.items() if name != iterator.input}
    return [Inputs({**rest, iterator.item: item}, inputs.artifacts) for item in items]


def _artifact_items(name: str, item: str, inputs: Inputs) -> list[Inputs]:
    rest = {key: value for key, value in inputs.artifacts.items() if key != name}
    return [Inputs(inputs.parameters, {**rest, item: (artifact,)}) for artifact in inputs.artifacts.get(name, ())]
