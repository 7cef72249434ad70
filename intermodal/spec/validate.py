"""Checks that a pipeline's references hold together, so that no run starts on a broken one."""

from __future__ import annotations

from collections.abc import Iterator as Iter
from graphlib import CycleError, TopologicalSorter

from intermodal import conditions, selectors
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import Component, Dag, FinalStatus, FromInput, FromTask, Pipeline, Source, Task


def validate(pipeline: Pipeline) -> None:
    """Raise BadInput or Unsupported naming the first task that is wrong."""
    for component in [pipeline.root, *pipeline.components.values()]:
        if isinstance(component.implementation, Dag):
            _check_dag(pipeline, component, component.implementation)
    _check_recursion(pipeline)


def _check_dag(pipeline: Pipeline, component: Component, dag: Dag) -> None:
    for task in dag.tasks.values():
        _check_task(pipeline, component, dag, task)
    try:
        tuple(TopologicalSorter({task.name: task.dependencies for task in dag.tasks.values()}).static_order())
    except CycleError as error:
        raise BadInput(
            f"component {component.name}: its tasks wait for each other: {' -> '.join(error.args[1])}"
        ) from error
    for outputs, kind in ((dag.parameter_outputs, "parameter"), (dag.artifact_outputs, "artifact")):
        for name, sources in outputs.items():
            for source in sources:
                _check_producer(pipeline, dag, source, f"component {component.name}: output {kind} {name!r}")


def _check_task(pipeline: Pipeline, component: Component, dag: Dag, task: Task) -> None:
    place = f"task {task.name!r} in {component.name}"
    if task.component not in pipeline.components:
        raise BadInput(f"{place}: component {task.component!r} is not defined")
    for name in task.dependencies:
        if name not in dag.tasks:
            raise BadInput(f"{place}: depends on {name!r}, which is not a task beside it")
    for name, source in [*task.parameters.items(), *task.artifacts.items()]:
        _check_source(pipeline, component, dag, source, f"{place}: input {name!r}")
    if task.condition:
        conditions.check(task.condition, place)
    _check_iterator(task, place)


def _check_iterator(task: Task, place: str) -> None:
    iterator = task.iterator
    if iterator is None or iterator.input is None:
        return
    given = task.artifacts if iterator.over_artifacts else task.parameters
    if iterator.input not in given:
        raise BadInput(f"{place}: loops over its input {iterator.input!r}, which it does not have")


def _check_source(pipeline: Pipeline, component: Component, dag: Dag, source: Source, place: str) -> None:
    if isinstance(source, FromInput | FromTask) and source.selector:
        selectors.check(source.selector, place)
    if isinstance(source, FromInput):
        declared = source.name in component.input_parameters or source.name in component.input_artifacts
        if not declared:
            raise BadInput(f"{place}: refers to {source.name!r}, which is not an input of component {component.name}")
    elif isinstance(source, FromTask):
        _check_producer(pipeline, dag, source, place)
    elif isinstance(source, FinalStatus) and source.task not in dag.tasks:
        raise BadInput(f"{place}: asks for the status of {source.task!r}, which is not a task beside it")


def _check_producer(pipeline: Pipeline, dag: Dag, source: FromTask, place: str) -> None:
    producer = dag.tasks.get(source.task)
    if producer is None:
        raise BadInput(f"{place}: takes {source.output!r} of {source.task!r}, which is not a task beside it")
    if producer.component not in pipeline.components:
        raise BadInput(f"task {producer.name!r}: component {producer.component!r} is not defined")
    made = pipeline.components[producer.component]
    if source.output not in made.output_parameters and source.output not in made.output_artifacts:
        raise BadInput(f"{place}: {source.task!r} has no output {source.output!r}")


def _check_recursion(pipeline: Pipeline) -> None:
    uses = {c.name: tuple(_used(c)) for c in [pipeline.root, *pipeline.components.values()]}
    try:
        tuple(TopologicalSorter(uses).static_order())
    except CycleError as error:
        raise Unsupported(f"component {error.args[1][0]!r} contains itself: {' -> '.join(error.args[1])}") from error


def _used(component: Component) -> Iter[str]:
    if isinstance(component.implementation, Dag):
        yield from (task.component for task in component.implementation.tasks.values())
