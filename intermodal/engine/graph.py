"""A run's graph: which tasks may start, what their inputs are, and what the outcome of one means for the others.

Pure bookkeeping on one thread: no process, no clock, no file. The runner calls `start`, is told through `Listener.ready` of
every leaf (a container or an importer) that may run, and reports each with `finish`. A failing task is a state here, never
an exception.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from intermodal.engine.artifacts import Inputs, Outputs
from intermodal.engine.decide import Skipped, dag_result, first_error, held_back, instances, loop_result, scope_of
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.resolve import Scope, bind, outer_scope
from intermodal.engine.states import State
from intermodal.errors import BadInput
from intermodal.spec.types import Component, Dag, Pipeline, Task, TriggerStrategy


@dataclass(eq=False, slots=True)
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

    def why(self) -> str:
        """Return why it failed, as `decide.Ended`."""
        if self.failure is not None:
            return f"{self.path}: {self.failure.message}"
        return first_error(list(self.nodes.values()))


@dataclass(eq=False, slots=True)
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

    def why(self) -> str:
        """Return why it failed, as `decide.Ended`."""
        if self.failure is not None:
            return f"{self.path}: {self.failure.message}"
        return first_error(self.iterations)


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
        held = held_back(node.task, node.parent.nodes)
        if held is not None:
            self._turn_away(node, State.SKIPPED, held.reason)
            return
        if self._draining and node.task.strategy is TriggerStrategy.ALL_SUCCEEDED:
            self._turn_away(node, State.SKIPPED, "another task failed before it began (--fail-fast)")
            return
        scope = scope_of(node.parent.inputs, node.parent.nodes, self.job, self._success_word)
        try:
            given = instances(node.task, node.component, node.path, scope)
        except BadInput as error:
            self._end_node(node, State.FAILED, failure=Failure(FailureClass.USER_CODE, error.message))
            return
        if isinstance(given, Skipped):
            self._turn_away(node, State.SKIPPED, given.reason)
            return
        works = [Work(item.path, node.component, item.inputs, node, scope, failure=item.failure) for item in given]
        self._launch(node, works)

    def _turn_away(self, node: Node, state: State, reason: str) -> None:
        node.reason = reason
        self._end_node(node, state)

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
            if work.failure is not None:
                work.state = State.FAILED
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
        result = loop_result(node.component, node.iterations)
        self._end_node(node, result.state, result.outputs)

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
        result = dag_result(dag, work.nodes)
        self._end_work(work, result.state, result.outputs)
