"""`${{...}}` as the service reads it: bindings between nodes, and what is put into a command, word for word."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from intermodal.errors import BadInput

_REFERENCE = re.compile(r"\$\{\{\s*(inputs|outputs|search_space)\.([\w.]+)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_BINDING = re.compile(
    r"\$\{\{\s*parent\.(?:jobs\.(?P<job>\w+)\.(?P<side>inputs|outputs)|inputs)\.(?P<port>[\w.]+)\s*\}\}"
)
_NAMES = re.compile(r"\$\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Binding:
    """A reference to a port of another node, or (`job` is None) to an input of the pipeline around."""

    job: str | None
    side: str
    port: str


def binding(text: str) -> Binding | None:
    """Return what a value refers to, None if it is a literal."""
    match = _BINDING.fullmatch(text.strip())
    if match is None:
        return None
    return Binding(match["job"], match["side"] or "inputs", match["port"])


def fill(text: str, values: Mapping[str, str], place: str) -> str:
    """Put `values` (`inputs.x`, `outputs.y`, `search_space.z`) into a text: no quoting, as the service does it.

    A part in `$[[...]]` is left out if an input in it has no value. Raises BadInput for any other reference without one.
    """

    def optional(match: re.Match[str]) -> str:
        known = all(f"{item[1]}.{item[2]}" in values for item in _REFERENCE.finditer(match[1]))
        return match[1] if known else ""

    def value(match: re.Match[str]) -> str:
        name = f"{match[1]}.{match[2]}"
        if name not in values:
            raise BadInput(f"{place}: its command uses {name}, which has no value")
        return values[name]

    return _REFERENCE.sub(value, _OPTIONAL.sub(optional, text))


def references(text: str) -> set[str]:
    """Return the names that a command uses, e.g. `outputs.model`."""
    return {f"{match[1]}.{match[2]}" for match in _REFERENCE.finditer(text)}


def address(template: str, names: Mapping[str, str]) -> str:
    """Return an address with `${{name}}` and its like put in; names that are not known stay."""
    return _NAMES.sub(lambda match: names.get(match[1], match.group()), template)
