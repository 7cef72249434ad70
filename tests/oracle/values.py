"""Values, their text, and placeholders, as the driver and the launcher of the KFP backend treat them."""

from __future__ import annotations

import json
from typing import Any


class Wrong(Exception):
    """The task cannot be given its inputs, or its outputs are not what it declares: it fails."""


def whole(value: Any) -> Any:
    """Return `value` with 5.0 as 5, everywhere: protojson writes whole doubles without a fraction."""
    if type(value) is float and abs(value) < 2**63 and value == int(value):
        return int(value)
    if type(value) is list:
        return [whole(item) for item in value]
    if type(value) is dict:
        return {key: whole(item) for key, item in value.items()}
    return value


def as_text(value: Any) -> str:
    """Return what stands in a command line for `value`."""
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is float:
        written = format(value, ".20f").rstrip("0") if abs(value) < 1e-4 or abs(value) > 1e15 else repr(value)
        return written.rstrip(".")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def typed(value: Any, kind: str, what: str) -> Any:
    """Return `value` as parameter type `kind`. Raises Wrong if it is none."""
    if kind == "STRING":
        return as_text(value)
    fits = {
        "NUMBER_INTEGER": type(value) is int,
        "NUMBER_DOUBLE": type(value) in (int, float),
        "BOOLEAN": type(value) is bool,
        "LIST": type(value) is list,
        "STRUCT": type(value) is dict,
        "TASK_FINAL_STATUS": type(value) is dict,
        "TASK_CONFIG": type(value) is dict,
    }
    if not fits[kind]:
        raise Wrong(f"{what}: {value!r} is not a {kind}")
    return value


def from_file(content: str, kind: str, what: str) -> Any:
    """Return the value of an output parameter's file."""
    if kind == "STRING":
        return content
    content = content.strip()
    try:
        if kind == "NUMBER_INTEGER":
            return int(content)
        if kind == "NUMBER_DOUBLE":
            return whole(float(content))
        if kind == "BOOLEAN":
            yes, no = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
            return {**dict.fromkeys(yes, True), **dict.fromkeys(no, False)}[content]
        value = whole(json.loads(content))
    except (ValueError, KeyError) as error:
        raise Wrong(f"{what}: {content!r} is not a {kind}") from error
    return typed(value, kind, what)


def fill(template: str, look_up: Any) -> str:
    """Return `template` with each `{{$...}}` replaced, once, by the text of `look_up('$...')`; unknown ones (KeyError) stay."""
    done, rest = "", template
    while "{{$" in rest:
        before, rest = rest.split("{{$", 1)
        if "}}" not in rest:
            return done + before + "{{$" + rest
        inside, rest = rest.split("}}", 1)
        try:
            done += before + as_text(look_up("$" + inside))
        except KeyError:
            done += before + "{{$" + inside + "}}"
    return done + rest


def fill_everywhere(value: Any, look_up: Any, *, typed: bool = False) -> Any:
    """Fill the placeholders of every text in a constant; `typed`: one that is a placeholder alone becomes the value itself."""
    if type(value) is str:
        if typed and value.startswith("{{$") and value.find("}}") == len(value) - 2:
            return look_up(value[2:-2])
        return fill(value, look_up)
    if type(value) is list:
        return [fill_everywhere(item, look_up, typed=typed) for item in value]
    if type(value) is dict:
        return {
            (fill(key, look_up) if typed else key): fill_everywhere(item, look_up, typed=typed)
            for key, item in value.items()
        }
    return value


def key_of(placeholder: str, before: str, after: str = "") -> str:
    """Return the name in `before['name']after`. Raises KeyError if the placeholder is another one."""
    if not (placeholder.startswith(before + "[") and placeholder.endswith("]" + after)):
        raise KeyError(placeholder)
    name = placeholder[len(before) + 1 : len(placeholder) - len(after) - 1].strip("'")
    if "'" in name:
        raise KeyError(placeholder)
    return name


def arguments(templates: list[str], look_up: Any, present: Any) -> list[str]:
    """Return an argument vector: placeholders filled, Concat and IfPresent worked out."""
    result: list[str] = []
    for template in templates:
        structure = None
        if template.strip().startswith(('{"Concat"', '{"IfPresent"')):
            structure = json.loads(template)
        result += _work_out(template if structure is None else structure, look_up, present)
    return result


def _work_out(item: Any, look_up: Any, present: Any) -> list[str]:
    if item is None:
        return []
    if type(item) is str:
        return [fill(item, look_up)]
    if type(item) is list:
        return [word for part in item for word in _work_out(part, look_up, present)]
    if "Concat" in item:
        return ["".join(word for part in item["Concat"] for word in _work_out(part, look_up, present))]
    choice = item["IfPresent"]
    return _work_out(choice["Then"] if present(choice["InputName"]) else choice.get("Else"), look_up, present)
