"""A pipeline job flattened: every node that runs something, what each of its inputs is, and whom it waits for.

A pipeline component's node becomes a group: its inner nodes are bound straight to what is outside. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from intermodal.backends.azureml.emulator.execution.bodies import (
    Command,
    Given,
    InputPort,
    Mode,
    OutputPort,
    component_command,
    component_inputs,
    given,
    overrides,
    pick,
)
from intermodal.backends.azureml.emulator.execution.expressions import binding
from intermodal.errors import BadInput, Unsupported

Path = tuple[str, ...]
"""Names of a node and of the nodes around it, outermost first."""
ARTIFACTS = "artifacts"
"""An output that every node has: what it leaves in `./outputs`, below a folder of that name."""


@dataclass(frozen=True)
class Value:
    """What an input is: exactly one of a literal's text, an address, or an output of another node."""

    text: str | None = None
    uri: str | None = None
    node: Path | None = None
    port: str = ""


@dataclass(frozen=True)
class Input:
    value: Value
    mode: Mode


@dataclass(frozen=True)
class Leaf:
    """A node that runs: a command, or a sweep over one."""

    path: Path
    body: Mapping[str, Any]
    command: Command
    inputs: Mapping[str, Input]
    """Without those that are optional and not given."""
    outputs: Mapping[str, OutputPort]

    @property
    def is_sweep(self) -> bool:
        return self.body.get("type") == "sweep"

    @property
    def label(self) -> str:
        return "/".join(self.path)

    @property
    def after(self) -> frozenset[Path]:
        return frozenset(item.value.node for item in self.inputs.values() if item.value.node is not None)


@dataclass
class Flat:
    leaves: dict[Path, Leaf] = field(default_factory=dict)
    groups: dict[Path, Mapping[str, Any]] = field(default_factory=dict)
    """Nodes of pipeline components: path -> body."""
    outputs: dict[str, tuple[Path, str]] = field(default_factory=dict)
    """Output of the job -> the leaf's port that becomes it."""

    def consumers(self, path: Path, port: str) -> list[Leaf]:
        return [
            leaf
            for leaf in self.leaves.values()
            if any(item.value.node == path and item.value.port == port for item in leaf.inputs.values())
        ]


ComponentOf = Callable[[str], Mapping[str, Any]]
"""Returns the specification of a registered component. Raises KeyError."""


def flatten(properties: Mapping[str, Any], component: ComponentOf) -> Flat:
    """Flatten a pipeline job. Raises BadInput, or Unsupported for node types that the emulator does not run; both name the node."""
    flattening = _Flattening(component)
    values = {name: _outside(item) for name, item in given(properties.get("inputs"), "the job").items()}
    targets = overrides(properties.get("outputs"), "the job")
    flattening.scope((), properties.get("jobs") or {}, values, targets)
    return flattening.finish(targets)


def _outside(item: Given) -> Value:
    return Value(text=item.text) if item.uri is None else Value(uri=item.uri)


class _Flattening:
    def __init__(self, component: ComponentOf) -> None:
        self._component = component
        self._flat = Flat()
        self._bound: dict[tuple[Path, str], tuple[Path, str]] = {}
        """Output of a group (the job itself is the group without a name) -> the inner node's port that becomes it."""

    def scope(
        self,
        path: Path,
        jobs: Mapping[str, Any],
        values: Mapping[str, Value],
        targets: Mapping[str, OutputPort],
    ) -> None:
        """Take in the nodes of a pipeline whose inputs are `values`; `targets` is what is asked of its outputs."""
        for name, body in jobs.items():
            self._node((*path, name), body, jobs, values, targets)

    def finish(self, outputs: Mapping[str, OutputPort]) -> Flat:
        """Return the flat pipeline, every binding to a group followed to the leaf inside."""
        flat = self._flat
        for path, leaf in flat.leaves.items():
            inputs = {name: replace(item, value=self._followed(item.value, leaf)) for name, item in leaf.inputs.items()}
            flat.leaves[path] = replace(leaf, inputs=inputs)
        for name in outputs:
            if ((), name) in self._bound:
                value = self._followed(Value(node=(), port=name), None)
                if value.node is not None:
                    flat.outputs[name] = (value.node, value.port)
        try:
            tuple(TopologicalSorter({path: leaf.after for path, leaf in flat.leaves.items()}).static_order())
        except CycleError as error:
            raise BadInput(f"nodes wait for each other: {' -> '.join('/'.join(p) for p in error.args[1])}") from error
        return flat

    def _followed(self, value: Value, leaf: Leaf | None) -> Value:
        if value.node is None:
            return value
        node, port = value.node, value.port
        while node not in self._flat.leaves:
            if (node, port) not in self._bound:
                missing = f"{port!r} of {'/'.join(node) or 'the job'}, which is not there"
                raise BadInput(f"{leaf.label if leaf else 'the job'}: is bound to {missing}")
            node, port = self._bound[node, port]
        if port not in self._flat.leaves[node].outputs and port != ARTIFACTS:
            label = leaf.label if leaf else "the job"
            raise BadInput(f"{label}: is bound to {port!r} of {'/'.join(node)}, which has no such output")
        return Value(node=node, port=port)

    def _node(
        self,
        path: Path,
        body: Mapping[str, Any],
        siblings: Mapping[str, Any],
        values: Mapping[str, Value],
        targets: Mapping[str, OutputPort],
    ) -> None:
        label = "/".join(path)
        spec = self._spec(body, label)
        asked = {
            name: self._asked(path, name, port, targets) for name, port in overrides(body.get("outputs"), label).items()
        }
        inputs = self._inputs(path, body, spec, siblings, values)
        if body.get("type") == "pipeline" or spec.get("type") == "pipeline":
            self._flat.groups[path] = body
            inner = {name: item.value for name, item in inputs.items()}
            self.scope(path, spec.get("jobs") or {}, inner, asked)
            return
        command = component_command(spec, body, label)
        outputs = {name: asked[name].over(port) if name in asked else port for name, port in command.outputs.items()}
        self._flat.leaves[path] = Leaf(path, body, command, inputs, outputs)

    def _spec(self, body: Mapping[str, Any], label: str) -> Mapping[str, Any]:
        kind = str(body.get("type", "command"))
        if kind not in ("command", "pipeline", "sweep"):
            raise Unsupported(f"{label}: a node of type {kind!r}; the emulator runs command, pipeline and sweep nodes")
        trial = body.get("trial") or {}
        named: Any = pick(body, "component_id") or body.get("component")
        if kind == "sweep":
            named = pick(trial, "component_id") if pick(trial, "component_id") else trial
        if isinstance(named, Mapping) and named:
            spec: Mapping[str, Any] = pick(named.get("properties") or named, "component_spec") or named
            return spec
        try:
            return self._component(str(named))
        except KeyError:
            raise BadInput(f"{label}: component {named!r} is not in the workspace") from None

    def _asked(self, path: Path, name: str, port: OutputPort, targets: Mapping[str, OutputPort]) -> OutputPort:
        if port.binding is None:
            return port
        self._bound[path[:-1], port.binding] = (path, name)
        return port.over(targets.get(port.binding, OutputPort()))

    def _inputs(
        self,
        path: Path,
        body: Mapping[str, Any],
        spec: Mapping[str, Any],
        siblings: Mapping[str, Any],
        values: Mapping[str, Value],
    ) -> dict[str, Input]:
        label = "/".join(path)
        found = given(body.get("inputs"), label)
        declared = component_inputs(spec)
        searched = set(pick(body, "search_space", {}))
        for name in found.keys() - declared.keys():
            raise BadInput(f"{label}: input {name!r} is not one of its component's")
        inputs: dict[str, Input] = {}
        for name, port in declared.items():
            item = found.get(name)
            value = self._value(path, name, item, siblings, values) if item else None
            if value is None and port.default is not None:
                value = Value(text=port.default)
            if value is not None:
                self._check(label, name, port, value)
                inputs[name] = Input(value, (item and item.mode) or port.mode or "mount")
            elif not port.optional and name not in searched:
                raise BadInput(f"{label}: input {name!r} has no value")
        return inputs

    def _value(
        self, path: Path, name: str, item: Given, siblings: Mapping[str, Any], values: Mapping[str, Value]
    ) -> Value | None:
        """Return what is given to an input, None if it is bound to an optional input that is not given."""
        bound = binding(item.text) if item.text is not None else binding(item.uri or "")
        if bound is None:
            return _outside(item)
        label = f"{'/'.join(path)}: input {name!r}"
        if bound.job is None:
            return values.get(bound.port)
        if bound.job not in siblings:
            raise BadInput(f"{label} is bound to node {bound.job!r}, which does not exist")
        if bound.side == "outputs":
            return Value(node=(*path[:-1], bound.job), port=bound.port)
        other = given(siblings[bound.job].get("inputs"), bound.job).get(bound.port)
        return self._value(path, name, other, siblings, values) if other else None

    def _check(self, label: str, name: str, port: InputPort, value: Value) -> None:
        if not port.is_data and value.node is not None:
            raise Unsupported(
                f"{label}: input {name!r} is a {port.kind} and is bound to an output; AzureML documents no outputs of primitive types"
            )
