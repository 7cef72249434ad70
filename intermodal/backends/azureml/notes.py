"""How each construct of a pipeline is realised, and where AzureML cannot keep the meaning."""

from __future__ import annotations

from collections.abc import Iterator

from intermodal.backends.azureml.flatten import Flat, Leaf
from intermodal.backends.azureml.report import Gap, Line
from intermodal.spec.types import Container, Dag, FinalStatus, Importer, Pipeline, Resources, Task, TriggerStrategy


def constructs(pipeline: Pipeline, flat: Flat) -> tuple[list[Line], list[Gap]]:
    """Return a line for each construct of each task, and the gaps, in the order of the pipeline."""
    lines: list[Line] = []
    gaps: list[Gap] = []
    for path, task in _tasks(pipeline, pipeline.root.implementation, ""):
        lines += _task_lines(pipeline, path, task)
        gaps += _task_gaps(path, task)
    loops = {loop.path: loop for loop in flat.loops}
    for loop in loops.values():
        what = f"{loop.slots} iterations" if loop.bound is None else f"{loop.bound} slots for items that a task makes"
        lines.append(Line(loop.path, "ParallelFor", "unrolled", what))
        if loop.bound is not None:
            gaps.append(Gap("loop-bound", loop.path))
    for leaf in flat.leaves.values():
        lines += _leaf_lines(leaf)
    return lines, gaps


def _tasks(pipeline: Pipeline, dag: object, prefix: str) -> Iterator[tuple[str, Task]]:
    if not isinstance(dag, Dag):
        return
    for task in dag.tasks.values():
        path = f"{prefix}/{task.name}" if prefix else task.name
        yield path, task
        yield from _tasks(pipeline, pipeline.component(task).implementation, path)


def _task_lines(pipeline: Pipeline, path: str, task: Task) -> Iterator[Line]:
    component = pipeline.component(task)
    if task.condition:
        yield Line(path, "condition", "launcher", task.condition)
    if isinstance(component.implementation, Dag) and task.iterator is None:
        yield Line(path, "nested pipeline or group", "unrolled", "its tasks are nodes of the job")
        dag = component.implementation
        for name, sources in {**dag.parameter_outputs, **dag.artifact_outputs}.items():
            if len(sources) > 1:
                yield Line(path, "OneOf", "launcher", f"{name}: every candidate is bound, the one that ran is taken")
    if task.iterator is not None and task.iterator.limit:
        yield Line(path, "parallelism", "unrolled", f"at most {task.iterator.limit}: iterations wait for earlier ones")
    if task.strategy is TriggerStrategy.ALL_COMPLETED:
        yield Line(
            path,
            "runs whatever happened before it",
            "launcher",
            "tasks before it fail softly; the verdict fails the job",
        )
    if any(isinstance(source, FinalStatus) for source in task.parameters.values()):
        yield Line(path, "PipelineTaskFinalStatus", "launcher")
    if task.retry.count:
        yield Line(path, "retry", "launcher", f"{task.retry.count} times, inside the node's job")
    if not task.cache:
        yield Line(path, "caching off", "exact", "is_deterministic: false")
    if task.cache_key:
        yield Line(path, "cache key", "launcher", "part of the node's wiring")


def _task_gaps(path: str, task: Task) -> Iterator[Gap]:
    if task.strategy is TriggerStrategy.ALL_COMPLETED:
        yield Gap("exit-after-kill", path)
    if task.retry.count:
        yield Gap("infrastructure-retry", path)
    if task.cache_key:
        yield Gap("cache-key", path)


def _leaf_lines(leaf: Leaf) -> Iterator[Line]:
    implementation = leaf.component.implementation
    if isinstance(implementation, Importer):
        yield Line(leaf.path, "importer", "exact", "a data input of the job")
        return
    if not isinstance(implementation, Container):
        return
    yield Line(leaf.path, "container", "exact", implementation.image)
    if leaf.component.input_parameters or leaf.component.output_parameters:
        yield Line(leaf.path, "parameters", "launcher")
    if leaf.component.input_artifacts or leaf.component.output_artifacts:
        yield Line(leaf.path, "artifacts", "exact", "uri_folder ports")
    if implementation.env:
        yield Line(leaf.path, "environment variables", "launcher")
    if implementation.resources != Resources():
        yield Line(leaf.path, "resources", "table", "instance_types")
    settings = implementation.kubernetes
    if implementation.volumes:
        yield Line(leaf.path, "volume claims", "table", "volumes")
    volumes = {item.config.kind for item in settings.config_volumes}
    variables = {item.config.kind for item in settings.config_env}
    yield from (Line(leaf.path, kind, "table") for kind in sorted(volumes | variables))
    if settings.deadline is not None:
        yield Line(leaf.path, "deadline", "exact", f"limits.timeout {settings.deadline:g} s")
    if settings.labels or settings.annotations:
        yield Line(leaf.path, "labels and annotations", "launcher", "field paths alone read them")
