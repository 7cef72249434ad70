"""From a pipeline with loops and nested pipelines to the flat list of leaves that an AzureML pipeline job is made of.

Every iteration of every loop and every task of every nested pipeline becomes a leaf of its own. Nothing is decided here that
the pipeline decides when it runs: each leaf knows which leaves it must come after and where its inputs may come from, and
its launcher decides with the engine's own code whether it runs, and with what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from intermodal.engine.artifacts import Inputs
from intermodal.engine.placeholders import references
from intermodal.engine.resolve import MISSING, Scope, bind, loop_items
from intermodal.errors import BadInput, Unsupported
from intermodal.spec.types import (
    Component,
    Dag,
    FromInput,
    FromTask,
    Importer,
    Pipeline,
    Source,
    Task,
    TriggerStrategy,
    Value,
)


@dataclass(frozen=True)
class Origin:
    """Where an artifact may come from: an output of a leaf, or (`leaf` empty) an artifact argument of the pipeline."""

    leaf: str
    output: str


@dataclass(frozen=True)
class Link:
    """One step on the way from the root to a leaf: a task and, if it is a loop, which iteration."""

    task: Task
    index: int | None = None


@dataclass(frozen=True)
class Leaf:
    """One run of one container or importer.

    `after` are leaves whose outcome decides about this one; `order` are leaves that must only be over (a loop's parallelism).
    `origins` are, for each input artifact, all the places it may come from; `parameters` the pipeline's parameters in reach.
    """

    path: str
    component: Component
    chain: tuple[Link, ...]
    after: tuple[str, ...]
    origins: Mapping[str, tuple[Origin, ...]]
    parameters: frozenset[str]
    known: Inputs
    order: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        return self.chain[-1].task

    @property
    def is_importer(self) -> bool:
        return isinstance(self.component.implementation, Importer)


@dataclass(frozen=True)
class Loop:
    """A loop as it was unrolled. `bound` is None if the number of its items was known."""

    path: str
    slots: int
    bound: int | None


@dataclass(frozen=True)
class Flat:
    """A pipeline as leaves, in an order in which each comes after those it needs.

    `soft` are leaves whose failure must not end their AzureML job as failed, because something runs whatever became of them.
    """

    leaves: Mapping[str, Leaf]
    loops: tuple[Loop, ...]
    soft: frozenset[str]
    outputs: Mapping[str, tuple[Origin, ...]]
    """The pipeline's output artifacts."""


@dataclass
class _Instance:
    """One instance of a DAG component on the way."""

    component: Component
    dag: Dag
    path: str
    chain: tuple[Link, ...]
    known: Inputs
    parent: _Instance | None
    after: tuple[str, ...] = ()
    leaves: dict[str, list[str]] = field(default_factory=dict)
    """Task -> the leaves in it, in order."""
    children: dict[str, list[_Instance]] = field(default_factory=dict)
    """Task that is a DAG -> its instances."""


class _Unknown(Exception):
    """A value that only running the pipeline can tell."""


def flatten(pipeline: Pipeline, inputs: Inputs, fan_out: int) -> Flat:
    """Return the leaves of `pipeline` for the arguments `inputs`; a loop whose items a task makes gets `fan_out` slots.

    Raises BadInput for wrong arguments, Unsupported naming the task for what has no form in AzureML.
    """
    return _Flattening(pipeline, inputs, fan_out).run()


class _Flattening:
    def __init__(self, pipeline: Pipeline, inputs: Inputs, fan_out: int) -> None:
        self._pipeline = pipeline
        self._inputs = inputs
        self._fan_out = fan_out
        self._leaves: dict[str, Leaf] = {}
        self._loops: list[Loop] = []
        self._soft: set[str] = set()

    def run(self) -> Flat:
        root = self._pipeline.root
        if not isinstance(root.implementation, Dag):
            raise Unsupported(f"pipeline {self._pipeline.name}: its root is not a DAG")
        known = bind(root, self._inputs, f"pipeline {self._pipeline.name}", inner=False)
        instance = _Instance(root, root.implementation, "", (), known, None)
        self._expand(instance)
        outputs = {
            name: self._from_sources(instance, sources) for name, sources in instance.dag.artifact_outputs.items()
        }
        return Flat(self._leaves, tuple(self._loops), self._with_ancestors(self._soft), outputs)

    def _with_ancestors(self, names: set[str]) -> frozenset[str]:
        """A leaf before one that must not stop the others must not stop them either."""
        found: set[str] = set()
        left = list(names)
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += self._leaves[name].after
        return frozenset(found)

    # Tasks

    def _expand(self, instance: _Instance) -> None:
        for task in _in_order(instance.dag):
            self._task(instance, task)

    def _task(self, instance: _Instance, task: Task) -> None:
        component = self._pipeline.component(task)
        path = f"{instance.path}/{task.name}" if instance.path else task.name
        upstream = [leaf for name in task.dependencies for leaf in instance.leaves[name]]
        if task.strategy is TriggerStrategy.ALL_COMPLETED:
            self._soft.update(upstream)
        after = tuple(dict.fromkeys([*instance.after, *upstream]))
        instance.leaves[task.name] = []
        if task.iterator is None:
            self._one(instance, task, component, path, Link(task), _known(instance, task), after, ())
            return
        iterations = self._iterations(instance, task, component, path)
        ends: list[list[str]] = []
        for index, known in enumerate(iterations):
            order = ends[index - task.iterator.limit] if 0 < task.iterator.limit <= index else []
            before = len(instance.leaves[task.name])
            self._one(instance, task, component, f"{path}/{index}", Link(task, index), known, after, tuple(order))
            ends.append(instance.leaves[task.name][before:])

    def _one(
        self,
        instance: _Instance,
        task: Task,
        component: Component,
        path: str,
        link: Link,
        known: Inputs,
        after: tuple[str, ...],
        order: tuple[str, ...],
    ) -> None:
        """Add one instance of the task: a leaf, or all that is in a DAG."""
        chain = (*instance.chain, link)
        bound = _with_defaults(task, component, known)
        if isinstance(component.implementation, Dag):
            child = _Instance(component, component.implementation, path, chain, bound, instance, after)
            instance.children.setdefault(task.name, []).append(child)
            first = len(self._leaves)
            self._expand(child)
            new = list(self._leaves)[first:]
            instance.leaves[task.name] += new
            for name in new if order else ():
                leaf = self._leaves[name]
                self._leaves[name] = replace(leaf, order=tuple(dict.fromkeys([*leaf.order, *order])))
            return
        origins = {name: self._origins(instance, source) for name, source in task.artifacts.items()}
        if task.iterator is not None and task.iterator.over_artifacts:
            origins[task.iterator.item] = origins.pop(task.iterator.input or "")
        after = self._behind_importers(after)
        self._leaves[path] = Leaf(path, component, chain, after, origins, _reach(chain), bound, order)
        instance.leaves[task.name].append(path)

    def _behind_importers(self, after: tuple[str, ...]) -> tuple[str, ...]:
        """An importer has no job of its own: whoever needs it decides about it, and so needs what it needs."""
        found: dict[str, None] = {}
        for name in after:
            found[name] = None
            if self._leaves[name].is_importer:
                found.update(dict.fromkeys(self._leaves[name].after))
        return tuple(found)

    # Loops

    def _iterations(self, instance: _Instance, task: Task, component: Component, path: str) -> list[Inputs]:
        """Return what is known of each iteration's inputs."""
        if task.iterator is None:
            raise AssertionError("only a loop has iterations")
        known = _known(instance, task)
        if task.iterator.over_artifacts:
            raise Unsupported(
                f"{path}: loops over artifacts, whose number is known only when the pipeline runs",
                hint="loop over a list of parameters instead",
            )
        if task.iterator.raw is None and task.iterator.input not in known.parameters:
            self._loops.append(Loop(path, self._fan_out, self._fan_out))
            return [known] * self._fan_out
        items = loop_items(task, component, known, path)
        self._loops.append(Loop(path, len(items), None))
        return items

    # Artifacts

    def _origins(self, instance: _Instance, source: Source) -> tuple[Origin, ...]:
        if isinstance(source, FromTask):
            return self._of_task(instance, source)
        if not isinstance(source, FromInput):
            raise BadInput("an artifact input refers to neither an input nor a task")
        if instance.parent is None:
            return (Origin("", source.name),) if source.name in self._inputs.artifacts else ()
        task = instance.chain[-1].task
        outer = task.artifacts.get(source.name)
        return self._origins(instance.parent, outer) if outer is not None else ()

    def _of_task(self, instance: _Instance, source: FromTask) -> tuple[Origin, ...]:
        children = instance.children.get(source.task)
        if children is None:
            return tuple(Origin(leaf, source.output) for leaf in instance.leaves[source.task])
        return tuple(
            origin
            for child in children
            for origin in self._from_sources(child, child.dag.artifact_outputs.get(source.output, ()))
        )

    def _from_sources(self, instance: _Instance, sources: Sequence[FromTask]) -> tuple[Origin, ...]:
        return tuple(origin for source in sources for origin in self._of_task(instance, source))


def _in_order(dag: Dag) -> Iterator[Task]:
    from graphlib import TopologicalSorter

    order = TopologicalSorter({task.name: task.dependencies for task in dag.tasks.values()}).static_order()
    return (dag.tasks[name] for name in order)


def _known(instance: _Instance, task: Task) -> Inputs:
    """Return the task's inputs as far as constants and arguments tell them."""
    scope = Scope(instance.known, _unknown, _unknown, _unknown, {})
    known: dict[str, Value] = {}
    for name, source in task.parameters.items():
        try:
            value = scope.parameter(source)
        except (_Unknown, BadInput):
            continue
        if value is not MISSING and not (isinstance(value, str) and references(value)):
            known[name] = value
    return Inputs(known)


def _unknown(*_: str) -> Value:
    raise _Unknown


def _with_defaults(task: Task, component: Component, known: Inputs) -> Inputs:
    """Add the defaults of what the task gives no value for, or a value that is known to be null."""
    values = {name: value for name, value in known.parameters.items() if value is not None}
    for name, declared in component.input_parameters.items():
        silent = name not in task.parameters or name in known.parameters
        if declared.has_default and name not in values and silent:
            values[name] = declared.default
    return Inputs(values)


def _reach(chain: tuple[Link, ...]) -> frozenset[str]:
    """Return the pipeline's parameters that the first task on the way to a leaf refers to: no other can."""
    return frozenset(source.name for source in chain[0].task.parameters.values() if isinstance(source, FromInput))
