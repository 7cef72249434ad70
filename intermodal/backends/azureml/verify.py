"""Checks of a pipeline job that the SDK's own validation does not make: bindings, cycles, types, names, empty and secret values.

Works on the documents that `az ml` reads, ours or anybody's; what a component that is only named declares is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from intermodal.errors import BadInput

_NODE = re.compile(r"[a-z_][a-z\d_]*")
_BINDING = re.compile(r"\$\{\{\s*parent\.(?P<what>[^}\s]+)\s*\}\}")
_JOB = re.compile(r"jobs\.(?P<job>[^.]+)\.(?P<side>inputs|outputs)\.(?P<port>[^.]+)")
_LITERAL_TYPES: Mapping[str, tuple[type, ...]] = {"integer": (int,), "number": (int, float), "boolean": (bool,)}
_ASSETS = frozenset({"uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model", "triton_model"})


@dataclass(frozen=True)
class Problem:
    """What is wrong, and where."""

    node: str
    message: str

    def __str__(self) -> str:
        return f"{self.node}: {self.message}" if self.node else self.message


def verify(
    job: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], secrets: Sequence[str] = ()
) -> list[Problem]:
    """Return what is wrong with a pipeline job. `components` maps what a node's `component` says to the component's document.

    `secrets` are values that must not stand anywhere in it.
    """
    return list(_Check(job, components, secrets).run())


def check(job: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], secrets: Sequence[str] = ()) -> None:
    """Raise BadInput naming the node for the first thing that is wrong."""
    problems = verify(job, components, secrets)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise BadInput(f"{problems[0]}{more}")


class _Check:
    def __init__(
        self, job: Mapping[str, Any], components: Mapping[str, Mapping[str, Any]], secrets: Sequence[str]
    ) -> None:
        self._job = job
        self._nodes: Mapping[str, Any] = job.get("jobs") or {}
        self._components = components
        self._secrets = [value for value in secrets if len(value) >= 6]
        self._before: dict[str, set[str]] = {name: set() for name in self._nodes}

    def run(self) -> Iterator[Problem]:
        if not self._nodes:
            yield Problem("", "the job has no nodes")
        for name, value in (self._job.get("inputs") or {}).items():
            yield from self._value("", f"input {name!r}", value)
        for name, node in self._nodes.items():
            yield from self._node(name, node)
        try:
            tuple(TopologicalSorter(self._before).static_order())
        except CycleError as error:
            yield Problem(error.args[1][0], f"waits for itself: {' -> '.join(error.args[1])}")
        yield from self._secret_values("", self._job)
        for file, component in self._components.items():
            yield from self._secret_values(file, component)

    def _node(self, name: str, node: Mapping[str, Any]) -> Iterator[Problem]:
        if not _NODE.fullmatch(name):
            yield Problem(name, "a node's name is lower-case letters, digits and underscores, not a digit first")
        component = self._component(node)
        given = node.get("inputs") or {}
        for port, value in given.items():
            declared = (component or {}).get("inputs", {}).get(port) if component is not None else None
            if component is not None and declared is None:
                yield Problem(name, f"input {port!r} is not one of its component's")
                continue
            yield from self._input(name, port, value, declared)
        for port, declared in ((component or {}).get("inputs") or {}).items():
            searched = port in (node.get("search_space") or {})
            if port not in given and not searched and not declared.get("optional") and "default" not in declared:
                yield Problem(name, f"input {port!r} has no value")
        for port, value in (node.get("outputs") or {}).items():
            if component is not None and port not in (component.get("outputs") or {}):
                yield Problem(name, f"output {port!r} is not one of its component's")
            yield from self._output(name, port, value)

    def _component(self, node: Mapping[str, Any]) -> Mapping[str, Any] | None:
        component = node.get("component", node.get("trial"))
        if isinstance(component, Mapping):
            return component
        return self._components.get(str(component))

    def _input(self, node: str, port: str, value: Any, declared: Mapping[str, Any] | None) -> Iterator[Problem]:
        text = value.get("path") if isinstance(value, Mapping) else value
        match = _BINDING.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            yield from self._value(node, f"input {port!r}", value)
            if declared is not None:
                yield from self._literal(node, port, value, declared)
            return
        found, problem = self._bound(node, match["what"])
        if problem:
            yield Problem(node, f"input {port!r} {problem}")
        elif found and declared is not None:
            yield from _types(node, port, found, str(declared.get("type", "")))

    def _bound(self, node: str, what: str) -> tuple[str, str]:
        """Return (type, problem) of what a binding refers to; an empty type is one that is not known here."""
        if what.startswith("inputs."):
            name = what.removeprefix("inputs.").split(".")[0]
            inputs = self._job.get("inputs") or {}
            if name not in inputs:
                return "", f"is bound to {name!r}, which is not an input of the job"
            value = inputs[name]
            return (str(value.get("type", "")) if isinstance(value, Mapping) else _literal_type(value)), ""
        match = _JOB.fullmatch(what)
        if match is None:
            return "", f"has a binding that cannot be read: {what}"
        if match["job"] not in self._nodes:
            return "", f"is bound to node {match['job']!r}, which does not exist"
        if match["side"] == "outputs":
            self._before[node].add(match["job"])
        component = self._component(self._nodes[match["job"]])
        if component is None:
            return "", ""
        ports = component.get(match["side"]) or {}
        if match["port"] not in ports:
            return "", f"is bound to {match['port']!r} of {match['job']!r}, which has no such {match['side'][:-1]}"
        return str(ports[match["port"]].get("type", "")), ""

    def _output(self, node: str, port: str, value: Any) -> Iterator[Problem]:
        text = value.get("path") if isinstance(value, Mapping) else value
        match = _BINDING.fullmatch(text.strip()) if isinstance(text, str) else None
        if match and match["what"].removeprefix("outputs.") not in (self._job.get("outputs") or {}):
            yield Problem(node, f"output {port!r} is bound to {match['what']!r}, which is not an output of the job")

    def _literal(self, node: str, port: str, value: Any, declared: Mapping[str, Any]) -> Iterator[Problem]:
        kind = str(declared.get("type", ""))
        if kind in _LITERAL_TYPES:
            good = isinstance(value, _LITERAL_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
            if not good:
                yield Problem(node, f"input {port!r} is {value!r}, not of type {kind}")
        if kind in _ASSETS and not isinstance(value, Mapping):
            yield Problem(node, f"input {port!r} is {value!r}, not of type {kind}")

    def _value(self, node: str, place: str, value: Any) -> Iterator[Problem]:
        if value is None or value == "":
            yield Problem(node, f"{place} is empty: the SDK drops it, and what is bound to it dangles")
        elif isinstance(value, Mapping) and not ({"path", "type", "value"} & value.keys()):
            yield Problem(node, f"{place} is a mapping: the SDK makes an empty folder of it")
        elif isinstance(value, list):
            yield Problem(node, f"{place} is a list: the SDK makes text of it")

    def _secret_values(self, place: str, value: Any) -> Iterator[Problem]:
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from self._secret_values(place or str(key), item)
        elif isinstance(value, list):
            for item in value:
                yield from self._secret_values(place, item)
        elif isinstance(value, str) and any(secret in value for secret in self._secrets):
            yield Problem(place, "holds the value of a secret")


def _literal_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"


def _types(node: str, port: str, found: str, wanted: str) -> Iterator[Problem]:
    if not wanted or found == wanted or (found, wanted) == ("integer", "number"):
        return
    if (found in _ASSETS) and (wanted in _ASSETS):  # the service converts between kinds of data
        return
    yield Problem(node, f"input {port!r} is of type {wanted} and is bound to a {found}")
