"""One attempt of a container: what its placeholders mean, and what it made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.oracle.values import Wrong, from_file, key_of, typed, whole

METADATA_ALONE = ("system.Metrics", "system.ClassificationMetrics", "system.SlicedClassificationMetrics")


@dataclass(frozen=True)
class Thing:
    """An artifact: where its content lies (None if it has none), what it is, and what is said of it."""

    type: str
    path: Path | None = None
    uri: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Values:
    """Parameters and artifacts by name. What nobody gave is not in it."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[Thing]] = field(default_factory=dict)


@dataclass
class Step:
    """One attempt of a container."""

    path: str
    attempt: int
    command: list[str]
    args: list[str]
    env: list[tuple[str, str]]
    image: str
    parameters: dict[str, Any]


class Place:
    """Where a step finds its inputs and leaves its outputs: paths as the step sees them, and as the oracle does."""

    def __init__(self, root: str, folder: Path) -> None:
        self.root = root
        self.folder = folder

    def input(self, name: str, index: int, thing: Thing, *, is_list: bool) -> tuple[str, str]:
        """Return URI and path of an input artifact as the step sees them."""
        path = f"{self.root}/inputs/{name}/{index}" if is_list else f"{self.root}/inputs/{name}"
        return (thing.uri or path), path


class Executor:
    """Runs steps. The oracle does not care how."""

    def place(self, path: str, attempt: int) -> Place:
        raise NotImplementedError

    def run(self, step: Step, place: Place, inputs: dict[str, list[Thing]], lists: set[str]) -> int:
        """Run the step to its end; return its exit code."""
        raise NotImplementedError

    def fetch(self, uri: str) -> Path:
        """Return a local path with the content of what an importer names. Raises Wrong."""
        path = Path(uri.removeprefix("file://"))
        if not path.exists():
            raise Wrong(f"{uri} is not there")
        return path


class Leaf:
    """A container's view of the world: what its placeholders mean, and what it made."""

    def __init__(
        self, component: dict[str, Any], inputs: Values, channels: dict[str, Any], place: Place, job: dict[str, str]
    ) -> None:
        self._inputs = inputs
        self._channels = channels
        self._place = place
        self._job = job
        self._declared: dict[str, Any] = component.get("outputDefinitions", {})
        takes = component.get("inputDefinitions", {}).get("artifacts", {})
        self.lists = {name for name, spec in takes.items() if spec.get("isArtifactList")}
        out = f"{place.root}/outputs"
        self._files = {name: f"{out}/parameters/{name}" for name in self._declared.get("parameters", {})}
        self._made = {name: f"{out}/artifacts/{name}" for name in self._declared.get("artifacts", {})}
        self._report = f"{out}/executor_output.json"

    def present(self, name: str) -> bool:
        given = {**self._channels, **self._inputs.parameters}
        return given.get(name) is not None or bool(self._inputs.artifacts.get(name))

    def look_up(self, placeholder: str) -> Any:
        """Return the value of a placeholder. Raises KeyError for what is none."""
        if placeholder == "$":
            return self._executor_input()
        if placeholder in ("$.outputs.output_file", "$.outputMetadataUri"):
            return self._report
        if placeholder.removeprefix("$.") in self._job:
            return self._job[placeholder.removeprefix("$.")]
        if placeholder.startswith("$.inputs.parameters"):
            name = key_of(placeholder, "$.inputs.parameters")
            return {**self._channels, **self._inputs.parameters}.get(name)
        if placeholder.startswith("$.outputs.parameters"):
            return self._files[key_of(placeholder, "$.outputs.parameters", ".output_file")]
        for side in ("inputs", "outputs"):
            if placeholder.startswith(f"$.{side}.artifacts"):
                return self._artifact(placeholder, f"$.{side}.artifacts", side)
        raise KeyError(placeholder)

    def _artifact(self, placeholder: str, start: str, side: str) -> Any:
        name, _, rest = placeholder.removeprefix(start).removeprefix("[").partition("]")
        found = self._runtime(side)[name.strip("'")]["artifacts"] if name.strip("'") in self._runtime(side) else []
        if rest == "":
            return found
        if not found:
            return None
        if rest in (".uri", ".path"):
            return found[0].get("custom_path", found[0]["uri"]) if rest == ".path" else found[0]["uri"]
        if rest == ".metadata":
            return found[0]["metadata"]
        return found[0]["metadata"].get(key_of(rest, ".metadata"))

    def _runtime(self, side: str) -> dict[str, Any]:
        """Return the artifacts of ExecutorInput, by name."""
        result: dict[str, Any] = {}
        if side == "outputs":
            for name, path in self._made.items():
                kind = self._declared["artifacts"][name]["artifactType"]
                result[name] = {
                    "artifacts": [_described(name, kind.get("schemaTitle", "system.Artifact"), path, path, {})]
                }
            return result
        for name, things in self._inputs.artifacts.items():
            result[name] = {"artifacts": []}
            for index, thing in enumerate(things):
                uri, path = self._place.input(name, index, thing, is_list=name in self.lists)
                result[name]["artifacts"].append(_described(name, thing.type, uri, path, thing.metadata))
        return result

    def _executor_input(self) -> str:
        document = {
            "inputs": {"parameterValues": self._inputs.parameters, "artifacts": self._runtime("inputs")},
            "outputs": {
                "parameters": {name: {"outputFile": path} for name, path in self._files.items()},
                "artifacts": self._runtime("outputs"),
                "outputFile": self._report,
            },
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    # What it made

    def outputs(self) -> Values:
        """Return what the step made. Raises Wrong if something that it declares is missing or is not what it should be."""
        report: dict[str, Any] = {}
        path = self._mine(self._report)
        if path.is_file():
            report = whole(json.loads(path.read_text(encoding="utf-8")))
        made = Values()
        for name, spec in self._declared.get("parameters", {}).items():
            kind = spec["parameterType"]
            if name in report.get("parameterValues", {}):
                made.parameters[name] = typed(report["parameterValues"][name], kind, name)
                continue
            file = self._mine(self._files[name])
            if not file.is_file():
                raise Wrong(f"{name} was not written")
            made.parameters[name] = from_file(file.read_bytes().decode("utf-8", "strict"), kind, name)
        for name, spec in self._declared.get("artifacts", {}).items():
            told = report.get("artifacts", {}).get(name, {}).get("artifacts", [])
            if spec.get("isArtifactList"):
                made.artifacts[name] = [self._thing(name, spec, one) for one in told]
            else:
                made.artifacts[name] = [self._thing(name, spec, told[0] if told else {})]
        return made

    def _thing(self, name: str, spec: dict[str, Any], told: dict[str, Any]) -> Thing:
        kind = spec["artifactType"].get("schemaTitle", "system.Artifact")
        where = told.get("custom_path") or told.get("uri") or self._made[name]
        metadata = told.get("metadata", {})
        if "://" in where:
            return Thing(kind, None, where, metadata)
        path = self._mine(where)
        if path.exists():
            return Thing(kind, path, "", metadata)
        if kind in METADATA_ALONE and told:
            return Thing(kind, None, "", metadata)
        raise Wrong(f"{name} was not written")

    def _mine(self, path: str) -> Path:
        """Return the file at a path as the step sees it."""
        return self._place.folder / Path(path).relative_to(self._place.root)


def _described(name: str, kind: str, uri: str, path: str, metadata: dict[str, Any]) -> dict[str, Any]:
    document = {"name": name, "uri": uri, "type": {"schemaTitle": kind}, "metadata": metadata}
    return document if path == uri else {**document, "custom_path": path}
