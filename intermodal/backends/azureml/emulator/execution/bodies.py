"""REST bodies as typed values: what a command is, what its ports are, what a node or a job gives to them.

The client writes jobs in camelCase and the nodes of a pipeline job in snake_case (API 2024-01-01-preview); both are read here.
A component's specification comes back from the service with its booleans and numbers as text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from intermodal.errors import BadInput

LITERALS = frozenset({"string", "integer", "number", "boolean", "literal"})
Mode = Literal["mount", "download", "upload", "direct"]
_MODES: Mapping[str, Mode] = {
    "readonlymount": "mount",
    "romount": "mount",
    "readwritemount": "mount",
    "rwmount": "mount",
    "evalmount": "mount",
    "evaldownload": "download",
    "download": "download",
    "upload": "upload",
    "direct": "direct",
}
_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


@dataclass(frozen=True)
class InputPort:
    """An input as a component declares it."""

    kind: str
    """`uri_folder`, `uri_file`, ..., or one of `LITERALS`."""
    optional: bool = False
    default: str | None = None
    mode: Mode | None = None

    @property
    def is_data(self) -> bool:
        return self.kind not in LITERALS


@dataclass(frozen=True)
class OutputPort:
    """An output as a component declares it, or as a node or a job overrides it."""

    kind: str = "uri_folder"
    mode: Mode | None = None
    uri: str | None = None
    """Where to publish it, with `${{name}}` and its like; None: wherever the workspace puts it."""
    binding: str | None = None
    """The output of the pipeline around it that it becomes."""

    def over(self, other: OutputPort) -> OutputPort:
        """Return this with what it leaves open taken from `other`. A body that says no kind says `uri_folder`: a file wins."""
        kind = "uri_file" if "uri_file" in (self.kind, other.kind) else self.kind
        return replace(self, kind=kind, mode=self.mode or other.mode, uri=self.uri or other.uri)


@dataclass(frozen=True)
class Given:
    """What a body gives to an input: text (a literal or a binding), or an address."""

    text: str | None = None
    uri: str | None = None
    kind: str = "literal"
    mode: Mode | None = None


@dataclass(frozen=True)
class Command:
    """What one container runs: a command component, or a command job."""

    line: str
    code: str | None
    environment: str | Mapping[str, Any]
    """Id of an environment, or its properties."""
    inputs: Mapping[str, InputPort]
    outputs: Mapping[str, OutputPort]
    variables: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    """Seconds."""
    resources: Mapping[str, Any] = field(default_factory=dict)


def pick(body: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Return `name` (snake_case) of a body that may write it in camelCase; null counts as absent."""
    head, *rest = name.split("_")
    for key in (name, head + "".join(word.capitalize() for word in rest)):
        if body.get(key) is not None:
            return body[key]
    return default


def mode_of(written: Any, place: str) -> Mode | None:
    """Return the mode that a body names. Raises BadInput."""
    if written is None:
        return None
    found = _MODES.get(str(written).replace("_", "").lower())
    if found is None:
        raise BadInput(f"{place}: mode {written!r} is not known")
    return found


def seconds(written: Any, place: str) -> float | None:
    """Return an ISO 8601 duration (`PT1H30M`), or a number of seconds. Raises BadInput."""
    if written is None or isinstance(written, int | float):
        return written
    match = _DURATION.fullmatch(str(written))
    if match is None or not any(match.groups()):
        raise BadInput(f"{place}: {written!r} is not a duration")
    days, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def is_true(written: Any) -> bool:
    return str(written).lower() == "true"


def given(body: Mapping[str, Any] | None, place: str) -> dict[str, Given]:
    """Return what `inputs` of a job or a node says. Raises BadInput."""
    found: dict[str, Given] = {}
    for name, value in (body or {}).items():
        if value is None:
            continue
        if not isinstance(value, Mapping):
            found[name] = Given(text=str(value))
            continue
        kind = str(pick(value, "job_input_type", "literal"))
        text, uri = pick(value, "value"), pick(value, "uri")
        mode = mode_of(pick(value, "mode"), f"{place}: input {name!r}")
        if text is not None or uri is not None:
            found[name] = Given(None if text is None else str(text), uri, kind, mode)
    return found


def overrides(body: Mapping[str, Any] | None, place: str) -> dict[str, OutputPort]:
    """Return what `outputs` of a job or a node says. Raises BadInput."""
    found: dict[str, OutputPort] = {}
    for name, value in (body or {}).items():
        item = value if isinstance(value, Mapping) else {}
        where = f"{place}: output {name!r}"
        text = pick(item, "value")
        binding = None
        if text is not None:
            match = re.fullmatch(r"\$\{\{\s*parent\.outputs\.(\w+)\s*\}\}", str(text))
            if match is None:
                raise BadInput(f"{where} is bound to {text!r}, which is no output of the pipeline")
            binding = match[1]
        kind = str(pick(item, "job_output_type", "uri_folder"))
        found[name] = OutputPort(kind, mode_of(pick(item, "mode"), where), pick(item, "uri"), binding)
    return found


def component_inputs(spec: Mapping[str, Any]) -> dict[str, InputPort]:
    """Return the inputs that a component declares."""
    return {name: port for key, value in (spec.get("inputs") or {}).items() for name, port in _ports(key, value)}


def _ports(name: str, value: Mapping[str, Any]) -> list[tuple[str, InputPort]]:
    if str(value.get("type")) == "group":  # `values` are inputs of their own: `${{inputs.group.name}}`
        inner = value.get("values") or {}
        return [item for key, child in inner.items() for item in _ports(f"{name}.{key}", child)]
    default = value.get("default")
    mode = mode_of(value.get("mode"), f"input {name!r}")
    kind = str(value.get("type", "string"))
    text = None if default is None else str(default)
    return [(name, InputPort(kind, is_true(value.get("optional")), text, mode))]


def component_outputs(spec: Mapping[str, Any]) -> dict[str, OutputPort]:
    """Return the outputs that a component declares."""
    return {
        name: OutputPort(str(value.get("type", "uri_folder")), mode_of(value.get("mode"), f"output {name!r}"))
        for name, value in (spec.get("outputs") or {}).items()
    }


def component_command(spec: Mapping[str, Any], node: Mapping[str, Any], place: str) -> Command:
    """Return what a node of a command component runs. Raises BadInput."""
    limits = node.get("limits") or {}
    line = spec.get("command")
    if not line or not spec.get("environment"):
        raise BadInput(f"{place}: its component has no {'environment' if line else 'command'}")
    variables = {**(spec.get("environment_variables") or {}), **(pick(node, "environment_variables", {}))}
    return Command(
        str(line),
        spec.get("code"),
        pick(node, "environment") or spec["environment"],
        component_inputs(spec),
        component_outputs(spec),
        {name: str(value) for name, value in variables.items()},
        seconds(limits.get("timeout"), f"{place}: limits.timeout"),
        {**(spec.get("resources") or {}), **(node.get("resources") or {})},
    )


def job_command(properties: Mapping[str, Any], place: str) -> Command:
    """Return what a command job, or a trial of a sweep job, runs; its ports are what it is given. Raises BadInput."""
    inputs = {
        name: InputPort("string" if item.uri is None else item.kind, mode=item.mode)
        for name, item in given(properties.get("inputs"), place).items()
    }
    line, environment = properties.get("command"), pick(properties, "environment_id")
    if not line or not environment:
        raise BadInput(f"{place}: has no {'environment' if line else 'command'}")
    return Command(
        str(line),
        pick(properties, "code_id"),
        environment,
        inputs,
        overrides(properties.get("outputs"), place),
        {name: str(value) for name, value in pick(properties, "environment_variables", {}).items()},
        seconds((properties.get("limits") or {}).get("timeout"), f"{place}: limits.timeout"),
        properties.get("resources") or {},
    )
