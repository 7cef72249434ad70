"""What a leaf's launcher is told: the part of the pipeline that decides about the leaf, and which port holds what.

The part is IR itself, cut down: on the way from the root to the leaf, each DAG with the one task that leads on, whole, and
the tasks that it depends on, as structure alone: their results come from the metas of their leaves. So a change elsewhere
in the pipeline leaves a leaf's wiring as it is, and AzureML reuses what it did.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from intermodal.backends.azureml.flatten import Flat, Leaf
from intermodal.spec.document import canonical_json
from intermodal.spec.types import Pipeline

SCHEMA = 1
_STUB: dict[str, Any] = {"container": {"image": "-"}}


def encode_wiring(document: Mapping[str, Any]) -> str:
    """Return the wiring as text that a shell leaves alone; equal wirings give equal text."""
    packed = gzip.compress(canonical_json(dict(document)).encode(), mtime=0)
    return base64.urlsafe_b64encode(packed).decode("ascii")


class Wiring:
    """Makes the wirings of one pipeline's leaves."""

    def __init__(
        self, pipeline: Pipeline, spec: Mapping[str, Any], platform: Mapping[str, Any], flat: Flat, success_word: str
    ) -> None:
        """`spec` and `platform` are the pipeline's IR as plain values."""
        self._pipeline = pipeline
        self._spec = spec
        self._platform = platform
        self._flat = flat
        self._success_word = success_word
        self._bounds = {loop.path: loop.bound for loop in flat.loops if loop.bound is not None}

    def of(self, leaf: Leaf) -> dict[str, Any]:
        """Return the wiring of a leaf: everything that its launcher needs beside its ports."""
        cut = _Cut(self._spec)
        label = cut.follow([link.task.name for link in leaf.chain])
        kubernetes = self._platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
        settings = kubernetes.get("executors", {}).get(label)
        bounds = {path: bound for path, bound in self._bounds.items() if f"{leaf.path}/".startswith(f"{path}/")}
        document = self._document(leaf.path, cut.spec, bounds)
        if settings:
            executors = {f"c{len(leaf.chain) - 1}": settings}
            document["platform"] = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
        return document

    def of_all(self) -> dict[str, Any]:
        """Return the wiring of the verdict: the whole pipeline's structure, without any step's command."""
        spec = deepcopy(dict(self._spec))
        for executor in spec.get("deploymentSpec", {}).get("executors", {}).values():
            if "container" in executor:
                executor["container"] = dict(_STUB["container"])
        return self._document("", spec, self._bounds)

    def _document(self, path: str, spec: Mapping[str, Any], bounds: Mapping[str, int]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "pipeline": self._pipeline.name,
            "path": path,
            "spec": spec,
            "bounds": bounds,
            "success": self._success_word,
        }


class _Cut:
    """A copy of a pipeline's IR that holds only what decides about one leaf."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._source = spec
        self._components = spec.get("components", {})
        self._executors = spec.get("deploymentSpec", {}).get("executors", {})
        self.spec: dict[str, Any] = {
            "pipelineInfo": {"name": spec.get("pipelineInfo", {}).get("name", "pipeline")},
            "root": _shell(spec["root"]),
            "components": {},
            "deploymentSpec": {"executors": {}},
        }

    def follow(self, names: list[str]) -> str:
        """Take in what decides about the leaf at the end of the tasks `names`, and its executor, whose label is returned."""
        source, target = self._source["root"], self.spec["root"]
        for position, name in enumerate(names):
            tasks, kept = source["dag"]["tasks"], target["dag"]["tasks"]
            self._add_dependencies(tasks, kept, tasks[name])
            component = self._components[tasks[name]["componentRef"]["name"]]
            copied = f"c{position}"
            kept[name] = {**tasks[name], "componentRef": {"name": copied}}
            source, target = component, self._add(copied, component)
        return str(source["executorLabel"])

    def _add(self, name: str, component: Mapping[str, Any]) -> dict[str, Any]:
        if "dag" in component:
            copied = _shell(component)
        else:
            copied = {**component, "executorLabel": name}
            self.spec["deploymentSpec"]["executors"][name] = self._executors[component["executorLabel"]]
        self.spec["components"][name] = copied
        return copied

    def _add_dependencies(self, tasks: Mapping[str, Any], kept: dict[str, Any], task: Mapping[str, Any]) -> None:
        for dependency in dependencies(task):
            if dependency not in kept:
                kept[dependency] = self._structure(tasks[dependency])
                if "inputs" in kept[dependency] or "triggerPolicy" in kept[dependency]:
                    self._add_dependencies(tasks, kept, tasks[dependency])

    def _structure(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Return a task that others depend on: what it is made of and, if no meta can tell about it, what it is given."""
        name = task["componentRef"]["name"]
        skeleton = {"componentRef": {"name": self._skeleton(name)}}
        if self._must_be_decided(name):
            return {**task, **skeleton}
        looped = {"parameterIterator": {"items": {"raw": "[]"}, "itemInput": "-"}}
        is_loop = "parameterIterator" in task or "artifactIterator" in task
        # An importer inside runs if what it depends on went well: that much must be known of it.
        order = {"dependentTasks": found} if (found := dependencies(task)) and not self._has_container(name) else {}
        return {**skeleton, **order, **(looped if is_loop else {})}

    def _must_be_decided(self, name: str) -> bool:
        """Whether a component holds a DAG (or is one) without any container: no leaf's meta tells whether it ran."""
        component = self._components[name]
        if "dag" not in component:
            return False
        tasks = component["dag"].get("tasks", {}).values()
        inner = [task["componentRef"]["name"] for task in tasks]
        return not self._has_container(name) or any(self._must_be_decided(child) for child in inner)

    def _has_container(self, name: str) -> bool:
        component = self._components[name]
        if "dag" in component:
            tasks = component["dag"].get("tasks", {}).values()
            return any(self._has_container(task["componentRef"]["name"]) for task in tasks)
        return "importer" not in self._executors[component["executorLabel"]]

    def _skeleton(self, name: str) -> str:
        """Copy a component with all that is in it, commands and needless inputs left out; return the copy's name."""
        copied = f"s-{name}"
        if copied in self.spec["components"]:
            return copied
        component = self._components[name]
        kept: dict[str, Any] = {}
        self.spec["components"][copied] = kept
        if "outputDefinitions" in component:
            kept["outputDefinitions"] = component["outputDefinitions"]
        if "dag" in component:
            if self._must_be_decided(name) and "inputDefinitions" in component:
                kept["inputDefinitions"] = component["inputDefinitions"]
            tasks = {key: self._structure(task) for key, task in component["dag"].get("tasks", {}).items()}
            kept["dag"] = {"tasks": tasks, "outputs": component["dag"].get("outputs", {})}
            return copied
        executor = self._executors[component["executorLabel"]]
        is_importer = "importer" in executor
        kept["executorLabel"] = copied if is_importer else "-"
        self.spec["deploymentSpec"]["executors"][kept["executorLabel"]] = executor if is_importer else _STUB
        return copied


def _shell(component: Mapping[str, Any]) -> dict[str, Any]:
    """Return a DAG component without tasks; its outputs mean nothing to a leaf inside it."""
    return {**{key: value for key, value in component.items() if key != "dag"}, "dag": {"tasks": {}}}


def dependencies(task: Mapping[str, Any]) -> list[str]:
    """Return the names of the tasks beside it that a task of the IR depends on, sorted."""
    found = set(task.get("dependentTasks") or ())
    inputs = task.get("inputs", {})
    for source in (*inputs.get("parameters", {}).values(), *inputs.get("artifacts", {}).values()):
        for kind in ("taskOutputParameter", "taskOutputArtifact", "taskFinalStatus"):
            if kind in source:
                found.add(source[kind]["producerTask"])
    return sorted(found)
