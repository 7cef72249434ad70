"""Whether each step can ever fit on this machine, as far as that is known before anything runs."""

from __future__ import annotations

from intermodal.engine.artifacts import Inputs
from intermodal.engine.placeholders import Context, parameter_names, references
from intermodal.engine.resolve import MISSING, Scope, bind
from intermodal.engine.resources import Ledger, demand_of
from intermodal.errors import BadInput
from intermodal.spec.types import Component, Container, Dag, Pipeline, Resources, Value


class _Unknown(Exception):
    """A value that only running the pipeline can tell."""


def check_fit(pipeline: Pipeline, inputs: Inputs, ledger: Ledger) -> None:
    """Raise BadInput naming the task whose request this machine can never meet.

    Requests are followed through constants and the pipeline's arguments; one that a task's output decides is checked when its
    task is ready.
    """
    _visit(pipeline, pipeline.root, bind(pipeline.root, inputs, f"pipeline {pipeline.name}", inner=False), "", ledger)


def _visit(pipeline: Pipeline, component: Component, inputs: Inputs, path: str, ledger: Ledger) -> None:
    implementation = component.implementation
    if isinstance(implementation, Container):
        _check(implementation.resources, inputs, path, ledger)
    if not isinstance(implementation, Dag):
        return
    scope = Scope(inputs, _unknown, _unknown, _unknown, {})
    for task in implementation.tasks.values():
        child, place = pipeline.component(task), f"{path}/{task.name}" if path else task.name
        known: dict[str, Value] = {}
        for name, source in task.parameters.items():
            try:
                value = scope.parameter(source)
            except (_Unknown, BadInput):
                continue
            if value is not MISSING and not (isinstance(value, str) and references(value)):
                known[name] = value
        _visit(pipeline, child, _with_defaults(child, Inputs(known)), place, ledger)


def _unknown(*_: str) -> Value:
    raise _Unknown


def _with_defaults(component: Component, inputs: Inputs) -> Inputs:
    defaults = {name: item.default for name, item in component.input_parameters.items() if item.has_default}
    return Inputs({**defaults, **inputs.parameters})


def _check(resources: Resources, inputs: Inputs, path: str, ledger: Ledger) -> None:
    known = {
        name: written if parameter_names(written) <= inputs.parameters.keys() else ""
        for name, written in vars(resources).items()
    }
    demand, _ = demand_of(Resources(**known), Context(parameters=inputs.parameters), path)
    ledger.check(demand, path)
