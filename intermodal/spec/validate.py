"""Checks that a pipeline's references hold together, so that no run starts on a broken one."""

from __future__ import annotations

from collections.abc import Iterator as Iter
from graphlib import CycleError, TopologicalSorter

from intermodal import conditions, selectors
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import (
    Component,
    Container,
    Dag,
    FinalStatus,
    FromInput,
    FromTask,
    Importer,
    ParameterType,
    Pipeline,
    Source,
    Task,
)

_LONGEST_NAME = 500
_MAX_NESTING = 100
_MAX_TASKS = 1_000_000
"""Tasks of all nested pipelines together, loops counted once. A few lines that use each other ten times over stand for billions."""


def validate(pipeline: Pipeline) -> None:
    """Raise BadInput or Unsupported naming the first task that is wrong."""
    _check_name(pipeline.name, "pipeline")
    if pipeline.root.name in pipeline.components:
        raise BadInput(f"component {pipeline.root.name!r}: the name is the pipeline's own")
    for component in [pipeline.root, *pipeline.components.values()]:
        _check_names(component)
        if isinstance(component.implementation, Dag):
            _check_dag(pipeline, component, component.implementation)
        elif isinstance(component.implementation, Importer):
            _check_importer(pipeline, component, component.implementation)
    for name, declared in pipeline.root.input_parameters.items():
        if declared.type is ParameterType.TASK_FINAL_STATUS:
            raise _no_status(f"pipeline {pipeline.name}", name)
    _check_recursion(pipeline)


def _no_status(place: str, name: str) -> Unsupported:
    return Unsupported(
        f"{place}: input {name!r} is the final status of another task, and there is none",
        hint="a component with a PipelineTaskFinalStatus runs as the exit task of an ExitHandler",
    )


def _check_names(component: Component) -> None:
    _check_name(component.name, "component")
    for names, what in (
        ((*component.input_parameters, *component.input_artifacts), "input"),
        ((*component.output_parameters, *component.output_artifacts), "output"),
    ):
        for name in names:
            _check_name(name, f"component {component.name}: {what}")
    if isinstance(component.implementation, Dag):
        for name in component.implementation.tasks:
            _check_name(name, f"component {component.name}: task")
            if "/" in name:  # separates the names in a task's path
                raise BadInput(f"component {component.name}: task {name!r}: a name holds no slash")


def _check_name(name: str, place: str) -> None:
    """Names are shown, recorded and made into folders: anything that can be seen is allowed, up to a length."""
    if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
        reason = "is empty" if not name else "is too long" if name.isprintable() else "holds what cannot be printed"
        raise BadInput(f"{place} {name[:40]!r}: the name {reason}")


def _check_dag(pipeline: Pipeline, component: Component, dag: Dag) -> None:
    for task in dag.tasks.values():
        _check_task(pipeline, component, dag, task)
    try:
        tuple(TopologicalSorter({task.name: task.dependencies for task in dag.tasks.values()}).static_order())
    except CycleError as error:
        raise BadInput(
            f"component {component.name}: its tasks wait for each other: {' -> '.join(error.args[1])}"
        ) from error
    for outputs, declared, kind in (
        (dag.parameter_outputs, component.output_parameters, "parameter"),
        (dag.artifact_outputs, component.output_artifacts, "artifact"),
    ):
        for name, sources in outputs.items():
            if name not in declared:
                raise BadInput(
                    f"component {component.name}: its dag gives the {kind} {name!r}, which is not an output of it"
                )
            for source in sources:
                _check_producer(pipeline, dag, source, f"component {component.name}: output {kind} {name!r}")


def _check_importer(pipeline: Pipeline, component: Component, importer: Importer) -> None:
    if len(component.output_artifacts) != 1:
        raise BadInput(
            f"component {component.name}: an importer makes one artifact, not {len(component.output_artifacts)}"
        )
    if importer.to_workspace and not pipeline.workspace:
        raise BadInput(
            f"component {component.name}: is to import into the workspace, but the pipeline has none",
            hint="give the pipeline a WorkspaceConfig",
        )


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
    for source in _named_by(pipeline.components[task.component]):
        if isinstance(source, FromTask):
            _check_producer(pipeline, dag, source, f"{place}: a claim, secret or config map")
    for name, declared in pipeline.components[task.component].input_parameters.items():
        if declared.type is ParameterType.TASK_FINAL_STATUS and name not in task.parameters:
            raise _no_status(place, name)
    _check_iterator(task, place)


def _named_by(component: Component) -> Iter[Source]:
    """Yield where the names of the claims, secrets and config maps come from that a container gets."""
    container = component.implementation
    if isinstance(container, Container):
        yield from (volume.name for volume in container.volumes)
        settings = container.kubernetes
        yield from (item.config.name for item in settings.config_volumes)
        yield from (item.config.name for item in settings.config_env)


def _check_iterator(task: Task, place: str) -> None:
    iterator = task.iterator
    if iterator is None or iterator.input is None:
        return
    given = task.artifacts if iterator.over_artifacts else task.parameters
    if iterator.input not in given:
        raise BadInput(f"{place}: loops over its input {iterator.input!r}, which it does not have")


def _check_source(pipeline: Pipeline, component: Component, dag: Dag, source: Source, place: str) -> None:
    if isinstance(source, (FromInput, FromTask)) and source.selector:
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
        order = tuple(TopologicalSorter(uses).static_order())
    except CycleError as error:
        raise Unsupported(f"component {error.args[1][0]!r} contains itself: {' -> '.join(error.args[1])}") from error
    tasks: dict[str, int] = {}
    depths: dict[str, int] = {}
    for name in order:
        tasks[name] = 1 + sum(tasks[inner] for inner in uses[name])
        depths[name] = 1 + max((depths[inner] for inner in uses[name]), default=0)
    if depths["root"] > _MAX_NESTING or tasks["root"] > _MAX_TASKS:
        size = f"{tasks['root']} tasks, pipelines in pipelines {depths['root']} deep"
        raise Unsupported(f"the pipeline is too large: {size}; at most {_MAX_TASKS} and {_MAX_NESTING}")


def _used(component: Component) -> Iter[str]:
    if isinstance(component.implementation, Dag):
        yield from (task.component for task in component.implementation.tasks.values())
