"""A run's graph: which tasks may start, what their inputs are, and what the outcome of one means for the others.

Pure bookkeeping on one thread: no process, no clock, no file. The runner calls `start`, is told through `Listener.ready` of
every leaf (a container or an importer) that may run, and reports each with `finish`. A failing task is a state here, never
an exception.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from intermodal.conditions import evaluate, parameter_names, plain_name, readable
from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.resolve import MISSING, Scope, bind, loop_items, outer_scope, raw_inputs
from intermodal.engine.states import State
from intermodal.engine.values import shorten
from intermodal.errors import BadInput
from intermodal.spec.types import Component, Dag, FromTask, Pipeline, Task, TriggerStrategy, Value


@dataclass(eq=False)
class Work:
    """One instance of a component with its inputs: the whole task, or one iteration of a loop."""

    path: str
    component: Component
    inputs: Inputs
    node: Node | None
    scope: Scope
    """What the task's own references reach: the platform spec's settings refer to it too."""
    state: State = State.PENDING
    outputs: Outputs = field(default_factory=Outputs)
    failure: Failure | None = None
    nodes: dict[str, Node] = field(default_factory=dict)
    """The tasks inside, if the component is a DAG."""
    unfinished: int = 0

    @property
    def task(self) -> Task:
        if self.node is None:
            raise AssertionError("the root is not a task")
        return self.node.task


@dataclass(eq=False)
class Node:
    """One task in a DAG instance."""

    task: Task
    component: Component
    path: str
    parent: Work
    waiting: int
    """Dependencies that are not final yet."""
    dependents: list[Node] = field(default_factory=list)
    state: State = State.PENDING
    outputs: Outputs = field(default_factory=Outputs)
    failure: Failure | None = None
    reason: str = ""
    """Why it was skipped or cancelled without having begun."""
    iterations: list[Work] = field(default_factory=list)
    queued: deque[Work] = field(default_factory=deque)
    running: int = 0


class Listener(Protocol):
    """Told of every change, in order."""

    def ready(self, leaf: Work) -> None:
        """A leaf may run; report it with `Graph.finish` (also if it is never started)."""

    def changed(self, node: Node) -> None:
        """A task became final or began."""

    def unfit(self, iteration: Work) -> None:
        """An iteration failed before it began: it cannot be given its inputs."""


class Graph:
    """The state of one run. Raises BadInput from the constructor if the pipeline's own inputs are wrong."""

    def __init__(
        self,
        pipeline: Pipeline,
        inputs: Inputs,
        job: Mapping[str, str],
        listener: Listener,
        success_word: str = "COMPLETE",
    ) -> None:
        """`job` maps placeholders such as `pipeline_job_name` to text; `success_word` is what a final status calls success."""
        self.pipeline = pipeline
        bound = bind(pipeline.root, inputs, f"pipeline {pipeline.name}", inner=False)
        self.root = Work("", pipeline.root, bound, None, outer_scope(job))
        self._success_word = success_word
        self.job = job
        self._listener = listener
        self._cancelled = False
        self._draining = False
        self._pending: deque[Node | Work] = deque()
        """Tasks to decide, and graphs without a task, which end as soon as they begin."""

    @property
    def done(self) -> bool:
        return self.root.state.final

    def start(self) -> None:
        self._begin(self.root)
        self._drain()

    def finish(self, leaf: Work, state: State, outputs: Outputs, failure: Failure | None = None) -> None:
        """Record how a leaf ended and start whatever that allows."""
        self._end_work(leaf, state, outputs, failure)
        self._drain()

    def cancel(self) -> None:
        """Start nothing more, exit tasks included (proto: they do not start when the job is cancelling)."""
        self._cancelled = True
        self._release_iterations(self.root)
        self._drain()

    def drain(self) -> None:
        """Start nothing more but tasks that run whatever happened before them (--fail-fast)."""
        self._draining = True

    # Beginning

    def _begin(self, work: Work) -> None:
        work.state = State.RUNNING
        dag = work.component.implementation
        if not isinstance(dag, Dag):
            self._listener.ready(work)
            return
        prefix = f"{work.path}/" if work.path else ""
        for task in dag.tasks.values():
            component = self.pipeline.component(task)
            work.nodes[task.name] = Node(task, component, prefix + task.name, work, len(task.dependencies))
        for node in work.nodes.values():
            for dependency in node.task.dependencies:
                work.nodes[dependency].dependents.append(node)
        work.unfinished = len(work.nodes)
        self._pending.extend(node for node in work.nodes.values() if node.waiting == 0)
        if not work.nodes:
            self._pending.append(work)

    def _drain(self) -> None:
        while self._pending:
            following = self._pending.popleft()
            if isinstance(following, Node):
                self._advance(following)
            else:
                self._end_dag(following)

    def _advance(self, node: Node) -> None:
        """Decide a task all of whose dependencies are final."""
        if self._cancelled:
            self._turn_away(node, State.CANCELLED, "the run was stopped before it began")
            return
        if node.task.strategy is TriggerStrategy.ALL_SUCCEEDED:
            upstream = (node.parent.nodes[name] for name in node.task.dependencies)
            missing = next((other for other in upstream if not other.state.green), None)
            if missing is not None:
                self._turn_away(node, State.SKIPPED, f"upstream {missing.task.name} {_WORDS[missing.state]}")
                return
            if self._draining:
                self._turn_away(node, State.SKIPPED, "another task failed before it began (--fail-fast)")
                return
        try:
            works = self._works(node)
        except BadInput as error:
            self._end_node(node, State.FAILED, failure=Failure(FailureClass.USER_CODE, error.message))
            return
        if works is not None:
            self._launch(node, works)

    def _turn_away(self, node: Node, state: State, reason: str) -> None:
        node.reason = reason
        self._end_node(node, state)

    def _works(self, node: Node) -> list[Work] | None:
        """Return the instances that the task stands for; if its condition is false, skip it and return None. Raises BadInput."""
        scope = self._scope(node.parent)
        inputs = raw_inputs(node.task, scope, node.path)
        if node.task.iterator is None:
            inputs = bind(node.component, inputs, node.path)
        tested = {**inputs.channels, **inputs.parameters}
        if node.task.condition and not evaluate(node.task.condition, tested, node.path):
            self._turn_away(node, State.SKIPPED, unmet(node.task.condition, tested))
            return None
        if node.task.iterator is None:
            return [Work(node.path, node.component, inputs, node, scope)]
        items = enumerate(loop_items(node.task, inputs, node.path))
        return [self._iteration(node, f"{node.path}/{index}", item, scope) for index, item in items]

    def _iteration(self, node: Node, path: str, given: Inputs, scope: Scope) -> Work:
        """Return one instance of a loop; one that cannot be given its inputs has failed already."""
        try:
            return Work(path, node.component, bind(node.component, given, path), node, scope)
        except BadInput as error:
            failure = Failure(FailureClass.USER_CODE, error.message)
            return Work(path, node.component, Inputs(), node, scope, State.FAILED, failure=failure)

    def _launch(self, node: Node, works: list[Work]) -> None:
        node.state = State.RUNNING
        node.iterations = works
        node.queued = deque(works)
        self._listener.changed(node)
        self._release(node)
        if node.running == 0:
            self._end_loop(node)

    def _release(self, node: Node) -> None:
        limit = node.task.iterator.limit if node.task.iterator else 0
        while node.queued and (not limit or node.running < limit):
            work = node.queued.popleft()
            if self._cancelled or (self._draining and node.task.strategy is TriggerStrategy.ALL_SUCCEEDED):
                work.state = State.CANCELLED if self._cancelled else State.SKIPPED
                continue
            if work.state is State.FAILED:
                self._listener.unfit(work)
                continue
            node.running += 1
            self._begin(work)

    def _release_iterations(self, work: Work) -> None:
        for node in work.nodes.values():
            if node.state is State.RUNNING:
                self._release(node)
                for iteration in node.iterations:
                    self._release_iterations(iteration)

    # Ending

    def _end_work(self, work: Work, state: State, outputs: Outputs, failure: Failure | None = None) -> None:
        work.state, work.outputs, work.failure = state, outputs, failure
        node = work.node
        if node is None:
            return
        node.running -= 1
        if node.task.iterator is None:
            self._end_node(node, state, outputs, failure)
            return
        self._release(node)
        if node.running == 0 and not node.queued:
            self._end_loop(node)

    def _end_loop(self, node: Node) -> None:
        """Collect a finished loop: outputs in index order; an iteration that gave nothing contributes nothing."""
        parameters: dict[str, list[Value]] = {name: [] for name in node.component.output_parameters}
        artifacts: dict[str, list[Artifact]] = {name: [] for name in node.component.output_artifacts}
        for work in node.iterations:
            for name, value in work.outputs.parameters.items():
                parameters[name].append(value)
            for name, items in work.outputs.artifacts.items():
                artifacts[name].extend(items)
        self._end_node(node, _together([work.state for work in node.iterations]), Outputs(parameters, artifacts))

    def _end_node(
        self, node: Node, state: State, outputs: Outputs | None = None, failure: Failure | None = None
    ) -> None:
        node.state, node.outputs, node.failure = state, outputs or Outputs(), failure
        self._listener.changed(node)
        for dependent in node.dependents:
            dependent.waiting -= 1
            if dependent.waiting == 0:
                self._pending.append(dependent)
        work = node.parent
        work.unfinished -= 1
        if work.unfinished == 0:
            self._end_dag(work)

    def _end_dag(self, work: Work) -> None:
        dag = work.component.implementation
        if not isinstance(dag, Dag):
            raise AssertionError("only a graph ends with its tasks")
        state = _together([node.state for node in work.nodes.values()])
        parameters = {name: self._first_parameter(work, sources) for name, sources in dag.parameter_outputs.items()}
        artifacts = {name: self._first_artifacts(work, sources) for name, sources in dag.artifact_outputs.items()}
        outputs = Outputs(
            {name: value for name, value in parameters.items() if value is not MISSING},
            {name: items for name, items in artifacts.items() if items is not None},
        )
        self._end_work(work, state, outputs)

    # References

    def _scope(self, work: Work) -> Scope:
        return Scope(
            inputs=work.inputs,
            parameter_of=lambda task, output: self._first_parameter(work, (FromTask(task, output),)),
            artifacts_of=lambda task, output: self._first_artifacts(work, (FromTask(task, output),)),
            status_of=lambda task: self._status(work.nodes[task]),
            job=self.job,
        )

    def _first_parameter(self, work: Work, sources: Sequence[FromTask]) -> Value:
        """Return the value of the first source that has one (OneOf: the branch that ran), else MISSING."""
        for source in sources:
            outputs = work.nodes[source.task].outputs
            if source.output in outputs.parameters:
                return outputs.parameters[source.output]
        return MISSING

    def _first_artifacts(self, work: Work, sources: Sequence[FromTask]) -> Sequence[Artifact] | None:
        for source in sources:
            outputs = work.nodes[source.task].outputs
            if source.output in outputs.artifacts:
                return outputs.artifacts[source.output]
        return None

    def _status(self, node: Node) -> Value:
        """Return PipelineTaskFinalStatus; by default the states are spelled as the open-source KFP backend spells them."""
        words = {State.FAILED: "FAILED", State.CANCELLED: "CANCELLED", State.SKIPPED: "SKIPPED"}
        return {
            "state": words.get(node.state, self._success_word),
            "pipelineJobResourceName": self.job.get("pipeline_job_resource_name", ""),
            "pipelineTaskName": node.task.name,
            "error": {"message": _reason(node)} if node.state is State.FAILED else {},
        }


def _reason(node: Node) -> str:
    """Return why a task failed: the task inside it that failed first by order, and its failure."""
    if node.failure is not None:
        return f"{node.path}: {node.failure.message}"
    for work in node.iterations:
        if work.failure is not None:
            return f"{work.path}: {work.failure.message}"
        for inner in work.nodes.values():
            if inner.state is State.FAILED:
                return _reason(inner)
    return ""


_WORDS = {State.FAILED: "failed", State.SKIPPED: "was skipped", State.CANCELLED: "was cancelled"}


def unmet(condition: str, parameters: Mapping[str, Value]) -> str:
    """Say that a condition was false, and of which values."""
    names = parameter_names(condition)
    given = ", ".join(f"{plain_name(name)} = {shorten(parameters.get(name))}" for name in names)
    return f"its condition was false: {readable(condition)}" + (f", with {given}" if given else "")


def _together(states: Sequence[State]) -> State:
    """Return the state of a group: failed if anything failed, cancelled if anything was, else succeeded if anything ran.

    A group in which nothing had to run (an empty loop too) is cached, so that a run says truly whether it did any work.
    """
    if State.FAILED in states:
        return State.FAILED
    if State.CANCELLED in states:
        return State.CANCELLED
    return State.SUCCEEDED if State.SUCCEEDED in states else State.CACHED
