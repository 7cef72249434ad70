"""KFP placeholders in commands, arguments, environment, images, resources and constants.

Substitution happens once: what a value holds is never looked at again, so a user's text may contain `{{$...}}` unharmed.
Source: comments of ExecutorInput in pipeline_spec.proto; `launcher_v2.go` and `driver/util.go` of the KFP backend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intermodal.bounded import parse_json
from intermodal.engine.uris import path_of
from intermodal.engine.values import text
from intermodal.errors import BadInput
from intermodal.spec.types import Value

_PLACEHOLDER = re.compile(r"\{\{\$(?P<expression>[^{}]*)\}\}")
_KEY = r"\['{1,2}(?P<name>[^']*)'{1,2}\]"
_PARAMETER = re.compile(r"\.inputs\.parameters" + _KEY)
_ARTIFACT = re.compile(
    r"\.(?P<side>inputs|outputs)\.artifacts"
    + _KEY
    + r"(?P<rest>\.uri|\.path|\.metadata)?(?:\['{1,2}(?P<key>[^']*)'{1,2}\])?"
)
_PARAMETER_FILE = re.compile(r"\.outputs\.parameters" + _KEY + r"\.output_file")


@dataclass(frozen=True)
class View:
    """One artifact as the step sees it."""

    name: str
    uri: str
    path: str
    schema_title: str
    schema_version: str
    metadata: Mapping[str, Value] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the RuntimeArtifact as protojson writes it."""
        document: dict[str, Any] = {
            "name": self.name,
            "uri": self.uri,
            "type": {"schemaTitle": self.schema_title, "schemaVersion": self.schema_version},
            "metadata": dict(self.metadata),
        }
        if self.path != path_of(self.uri, self.metadata):
            document["custom_path"] = self.path
        return document


@dataclass(frozen=True)
class Context:
    """Everything a placeholder can refer to.

    `parameters` are the declared inputs, which also make the ExecutorInput; `channels` are the further values that only
    placeholders may name. `job` maps names such as `pipeline_job_name` to text.
    """

    parameters: Mapping[str, Value]
    channels: Mapping[str, Value] = field(default_factory=dict)
    inputs: Mapping[str, Sequence[View]] = field(default_factory=dict)
    outputs: Mapping[str, View] = field(default_factory=dict)
    parameter_files: Mapping[str, str] = field(default_factory=dict)
    output_file: str = ""
    job: Mapping[str, str] = field(default_factory=dict)

    def executor_input(self) -> dict[str, Any]:
        """Return the ExecutorInput as protojson writes it (camel case)."""
        return {
            "inputs": {
                "parameterValues": {name: value for name, value in self.parameters.items() if value is not None},
                "artifacts": {
                    name: {"artifacts": [view.as_json() for view in views]} for name, views in self.inputs.items()
                },
            },
            "outputs": {
                "parameters": {name: {"outputFile": path} for name, path in self.parameter_files.items()},
                "artifacts": {name: {"artifacts": [view.as_json()]} for name, view in self.outputs.items()},
                "outputFile": self.output_file,
            },
        }

    def has(self, name: str) -> bool:
        """Whether input `name` is present (IfPresent): a null is absent."""
        return (
            self.parameters.get(name) is not None or self.channels.get(name) is not None or bool(self.inputs.get(name))
        )


def references(template: str) -> bool:
    """Whether `template` holds a placeholder."""
    return _PLACEHOLDER.search(template) is not None


def parameter_names(template: str) -> set[str]:
    """Return the input parameters that the template's placeholders name."""
    matches = [_PARAMETER.fullmatch(found["expression"]) for found in _PLACEHOLDER.finditer(template)]
    return {match["name"] for match in matches if match}


def resolve(template: str, context: Context) -> str:
    """Return `template` with every known placeholder replaced by its text; anything else in it stays as it is."""
    return _PLACEHOLDER.sub(lambda match: text(_lookup(match.group("expression"), context, match.group(0))), template)


def resolve_value(template: str, context: Context) -> Value:
    """Like `resolve`, but a template that is one placeholder and nothing else keeps the value's type."""
    match = _PLACEHOLDER.fullmatch(template)
    if match:
        return _lookup(match.group("expression"), context, template)
    return resolve(template, context)


def resolve_arguments(templates: Sequence[str], context: Context) -> tuple[str, ...]:
    """Return the argument vector: placeholders replaced, IfPresent and Concat evaluated, absent elements gone."""
    arguments: list[str] = []
    for template in templates:
        struct = _struct(template)
        if struct is None:
            arguments.append(resolve(template, context))
        else:
            arguments.extend(_evaluate(struct, context))
    return tuple(arguments)


def _struct(template: str) -> dict[str, Any] | None:
    if not template.lstrip().startswith("{"):
        return None
    try:
        document = parse_json(template)
    except ValueError:
        return None
    if isinstance(document, dict) and len(document) == 1 and next(iter(document)) in ("Concat", "IfPresent"):
        return document
    return None


def _evaluate(item: Any, context: Context) -> list[str]:
    """Return the arguments that a string, a list or a Concat/IfPresent struct stands for (none, one or several)."""
    if isinstance(item, str):
        return [resolve(item, context)]
    if isinstance(item, list):
        return [argument for part in item for argument in _evaluate(part, context)]
    if isinstance(item, dict) and "Concat" in item:
        return ["".join(argument for part in item["Concat"] for argument in _evaluate(part, context))]
    if isinstance(item, dict) and "IfPresent" in item:
        choice = item["IfPresent"]
        branch = choice.get("Then") if context.has(choice["InputName"]) else choice.get("Else")
        return _evaluate(branch, context) if branch is not None else []
    raise BadInput(f"argument {json.dumps(item)}: is neither text nor Concat nor IfPresent")


def _lookup(expression: str, context: Context, whole: str) -> Value:
    if expression == "":
        return json.dumps(context.executor_input(), separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    if match := _PARAMETER.fullmatch(expression):
        name = match.group("name")
        return context.parameters[name] if name in context.parameters else context.channels.get(name)
    if match := _ARTIFACT.fullmatch(expression):
        return _artifact(match, context)
    if match := _PARAMETER_FILE.fullmatch(expression):
        return _known(context.parameter_files, match.group("name"), whole)
    if expression in (".outputs.output_file", ".outputMetadataUri"):
        return context.output_file
    if expression.startswith(".") and expression[1:] in context.job:
        return context.job[expression[1:]]
    return whole


def _known(mapping: Mapping[str, Any], name: str, whole: str) -> Any:
    if name not in mapping:
        raise BadInput(f"placeholder {whole}: the component has no {name!r}")
    return mapping[name]


def _artifact(match: re.Match[str], context: Context) -> Value:
    name, rest, key = match.group("name"), match.group("rest"), match.group("key")
    views: Sequence[View]
    if match.group("side") == "outputs":
        views = [_known(context.outputs, name, match.group(0))]
    else:
        views = context.inputs.get(name, ())
    if rest is None:
        return [view.as_json() for view in views]
    if not views:
        return None
    getters: dict[str, Callable[[View], Value]] = {".uri": lambda v: v.uri, ".path": lambda v: v.path}
    if rest in getters:
        return getters[rest](views[0])
    metadata = dict(views[0].metadata)
    return metadata if key is None else metadata.get(key)
