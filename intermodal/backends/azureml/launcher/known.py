"""What a launcher knows of a pipeline: the metas of the leaves before its own, and what they mean for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intermodal.engine.artifacts import Artifact, Inputs, Outputs
from intermodal.engine.decide import Instance as Given
from intermodal.engine.decide import Result, Skipped, dag_result, held_back, instances, loop_result, scope_of
from intermodal.engine.failure import Failure, FailureClass
from intermodal.engine.resolve import Scope
from intermodal.engine.states import State
from intermodal.errors import BadInput
from intermodal.spec.types import Component, Dag, Importer, Pipeline, Task


@dataclass(frozen=True)
class Meta:
    """How a leaf ended, as `meta.json` in its `kfp_meta` output says it.

    `decided` is the path at which it was decided that the leaf does not run: its own, or that of a group around it; empty if
    it ran. `absent` is the path of a loop that had fewer items than there were slots for, if the leaf is in such a slot.
    """

    path: str
    state: State
    outputs: Outputs = field(default_factory=Outputs)
    failure: Failure | None = None
    decided: str = ""
    absent: str = ""
    reason: str = ""
    """Why a skipped leaf was."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """What stands for an artifact's content -> the sha256 of the content."""

    def as_json(self) -> dict[str, Any]:
        failure = self.failure
        return {
            "path": self.path,
            "state": self.state.value,
            "outputs": self.outputs.as_json(),
            "failure": [failure.kind.value, failure.message, failure.exit_code] if failure else None,
            "decided": self.decided,
            "absent": self.absent,
            "reason": self.reason,
            "digests": dict(self.digests),
        }

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Meta:
        failure = document["failure"]
        return Meta(
            document["path"],
            State(document["state"]),
            Outputs.from_json(document["outputs"]),
            Failure(FailureClass(failure[0]), failure[1], failure[2]) if failure else None,
            document["decided"],
            document["absent"],
            document["reason"],
            document.get("digests", {}),
        )


@dataclass(frozen=True)
class Instance:
    """One instance of a DAG component. `inputs` is None where nothing inside can ask for them."""

    path: str
    dag: Dag
    inputs: Inputs | None


@dataclass(frozen=True)
class Run:
    """The leaf runs, with these inputs; `scope` is what its task's own references reach."""

    component: Component
    task: Task
    inputs: Inputs
    scope: Scope


class Known:
    """Decides about leaves. Raises BadInput only where the pipeline's own arguments are wrong."""

    def __init__(
        self,
        pipeline: Pipeline,
        root: Inputs,
        metas: Mapping[str, Meta],
        imported: Mapping[str, Artifact],
        bounds: Mapping[str, int],
        job: Mapping[str, str],
        success_word: str,
    ) -> None:
        """`root` are the pipeline's inputs, bound; `imported` the artifacts of importers by their path."""
        self._pipeline = pipeline
        self._metas = metas
        self._imported = imported
        self._bounds = bounds
        self._job = job
        self._success_word = success_word
        dag = pipeline.root.implementation
        if not isinstance(dag, Dag):
            raise BadInput(f"pipeline {pipeline.name}: its root is not a DAG")
        self._root = Instance("", dag, root)
        self._results: dict[str, Result] = {}

    def decide(self, path: str) -> Run | Meta:
        """Return what becomes of the leaf at `path`: it runs, or a meta says why it does not."""
        instance, rest = self._root, path.split("/")
        while True:
            task = instance.dag.tasks[rest.pop(0)]
            here = _join(instance.path, task.name)
            component = self._pipeline.component(task)
            given = self._instances(instance, task, component, here)
            if isinstance(given, Skipped):
                return Meta(path, State.SKIPPED, decided=here, reason=given.reason)
            if isinstance(given, Failure):
                return Meta(path, State.FAILED, failure=given, decided=here)
            index = int(rest.pop(0)) if task.iterator is not None else 0
            if self._bounds.get(here, len(given)) < len(given):
                return self._too_many(path, here, len(given))
            if index >= len(given):
                return Meta(path, State.SKIPPED, decided=f"{here}/{index}", absent=here)
            chosen = given[index]
            if chosen.failure is not None:
                return Meta(path, State.FAILED, failure=chosen.failure, decided=chosen.path)
            if not isinstance(component.implementation, Dag):
                return Run(component, task, chosen.inputs, self._scope(instance))
            instance = Instance(chosen.path, component.implementation, chosen.inputs)

    def outcome(self) -> Result:
        """Return what the whole pipeline gave; needs the metas of all leaves."""
        return self._dag(self._root)

    def results(self) -> Mapping[str, Result]:
        """Return what each task gave that `outcome` came to, by path: loops and nested pipelines too."""
        return dict(self._results)

    def _too_many(self, path: str, loop: str, count: int) -> Meta:
        message = (
            f"{loop}: has {count} items, and the job was compiled for at most {self._bounds[loop]}: "
            "compile it again with a larger fan_out"
        )
        return Meta(path, State.FAILED, failure=Failure(FailureClass.USER_CODE, message), decided=loop)

    def _instances(
        self, instance: Instance, task: Task, component: Component, here: str
    ) -> Sequence[Given] | Skipped | Failure:
        """Return the instances that a task stands for, or why it does not run."""
        held = held_back(task, _Siblings(self, instance))
        if held is not None:
            return held
        try:
            return instances(task, component, here, self._scope(instance))
        except BadInput as error:
            return Failure(FailureClass.USER_CODE, error.message)

    def _scope(self, instance: Instance) -> Scope:
        if instance.inputs is None:
            raise AssertionError(f"{instance.path}: its inputs are not known here")
        return scope_of(instance.inputs, _Siblings(self, instance), self._job, self._success_word)

    # Results

    def task_result(self, instance: Instance, name: str) -> Result:
        return self._task(instance, instance.dag.tasks[name])

    def _task(self, instance: Instance, task: Task) -> Result:
        here = _join(instance.path, task.name)
        if here not in self._results:
            self._results[here] = self._find(instance, task, here)
        return self._results[here]

    def _find(self, instance: Instance, task: Task, here: str) -> Result:
        component = self._pipeline.component(task)
        if task.iterator is None and here in self._metas:
            return _result(self._metas[here])
        inside = [meta for path, meta in self._metas.items() if path.startswith(f"{here}/")]
        for meta in inside:
            if meta.decided == here and not meta.absent:
                return _decided(meta)
        if isinstance(component.implementation, Importer) and task.iterator is None:
            return self._importer(instance, task, component, here)
        if not inside:
            return self._virtual(instance, task, component, here)
        inputs = self._inputs_if_asked(instance, task, component, here)
        if task.iterator is None:
            return self._one(here, component, inputs.get(here))
        present = {meta.path[len(here) + 1 :].split("/")[0] for meta in inside if meta.absent != here}
        paths = [f"{here}/{index}" for index in sorted(map(int, present))]
        return loop_result(component, [self._one(path, component, inputs.get(path)) for path in paths])

    def _one(self, path: str, component: Component, inputs: Inputs | None) -> Result:
        """Return the result of one instance of a component."""
        if path in self._metas:
            return _result(self._metas[path])
        decided = [meta for meta in self._metas.values() if meta.decided == path and not meta.absent]
        if decided:
            return _decided(decided[0])
        if isinstance(component.implementation, Importer):
            return self._imported_result(path, component)
        if not isinstance(component.implementation, Dag):
            raise AssertionError(f"{path}: no meta of this leaf is bound")
        return self._dag(Instance(path, component.implementation, inputs))

    def _dag(self, instance: Instance) -> Result:
        return dag_result(instance.dag, {name: self._task(instance, task) for name, task in instance.dag.tasks.items()})

    def _importer(self, instance: Instance, task: Task, component: Component, here: str) -> Result:
        held = held_back(task, _Siblings(self, instance))
        return Result(State.SKIPPED) if held is not None else self._imported_result(here, component)

    def _imported_result(self, path: str, component: Component) -> Result:
        artifact = self._imported[path]
        return Result(State.SUCCEEDED, Outputs(artifacts=dict.fromkeys(component.output_artifacts, (artifact,))))

    def _virtual(self, instance: Instance, task: Task, component: Component, here: str) -> Result:
        """Decide about a group in which nothing has a job of its own (importers alone, or nothing at all)."""
        if instance.inputs is None:
            # Only the structure of this place is wired, and in it a loop that has no leaf: it was compiled for no items.
            held = held_back(task, _Siblings(self, instance))
            if held is None:
                return loop_result(component, [])
            return (
                Result(State.SKIPPED)
                if isinstance(held, Skipped)
                else Result(State.FAILED, error=f"{here}: {held.message}")
            )
        given = self._instances(instance, task, component, here)
        if isinstance(given, Skipped):
            return Result(State.SKIPPED)
        if isinstance(given, Failure):
            return Result(State.FAILED, error=f"{here}: {given.message}")
        results = [
            Result(State.FAILED, error=f"{item.path}: {item.failure.message}")
            if item.failure is not None
            else self._one(item.path, component, item.inputs)
            for item in given
        ]
        return results[0] if task.iterator is None else loop_result(component, results)

    def _inputs_if_asked(self, instance: Instance, task: Task, component: Component, here: str) -> dict[str, Inputs]:
        """Return the inputs of the task's instances where something inside must be decided by them, else nothing.

        The wiring keeps a task's inputs only in that case.
        """
        if instance.inputs is None or not (component.input_parameters or component.input_artifacts):
            return {}
        if not _holds_importers(self._pipeline, component):
            return {}
        given = self._instances(instance, task, component, here)
        return {} if isinstance(given, (Skipped, Failure)) else {item.path: item.inputs for item in given}


class _Siblings(Mapping[str, Result]):
    """The results of the tasks of a DAG instance, found when they are asked for."""

    def __init__(self, known: Known, instance: Instance) -> None:
        self._known = known
        self._instance = instance

    def __getitem__(self, name: str) -> Result:
        return self._known.task_result(self._instance, name)

    def __iter__(self) -> Any:
        return iter(self._instance.dag.tasks)

    def __len__(self) -> int:
        return len(self._instance.dag.tasks)


def _holds_importers(pipeline: Pipeline, component: Component) -> bool:
    implementation = component.implementation
    if isinstance(implementation, Dag):
        return any(_holds_importers(pipeline, pipeline.component(task)) for task in implementation.tasks.values())
    return isinstance(implementation, Importer)


def _result(meta: Meta) -> Result:
    """Return what a leaf gave."""
    return Result(meta.state, meta.outputs, f"{meta.path}: {meta.failure.message}" if meta.failure else "")


def _decided(meta: Meta) -> Result:
    """Return what a group gave that a leaf in it says did not run."""
    return Result(meta.state, error=f"{meta.decided}: {meta.failure.message}" if meta.failure else "")


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
