"""Names in AzureML: what a task, an input or an output of KFP is called there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from intermodal.errors import BadInput

_LONGEST = 255


def node_name(path: str) -> str:
    """Return the name of a leaf's node: `^[a-z_][a-z0-9_]*$`, levels joined by two underscores.

    `for-loop-1/0/train` is `for_loop_1__0__train`.
    """
    name = "__".join(re.sub(r"[^a-z0-9_]", "_", part.lower()) for part in path.split("/"))
    return name if re.match(r"[a-z_]", name) else f"_{name}"


def port_name(name: str) -> str:
    """Return the name of an input or an output: letters, digits, underscores, not a digit first."""
    port = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return port if re.match(r"[A-Za-z_]", port) else f"_{port}"


def unique(paths: Iterable[str]) -> dict[str, str]:
    """Return the node name of each path. Raises BadInput where two paths would share a name, or one is too long."""
    taken: dict[str, str] = {}
    for path in paths:
        name = node_name(path)
        if name in taken:
            raise BadInput(
                f"tasks {taken[name]!r} and {path!r} would both be {name!r} in AzureML", hint="rename one of them"
            )
        if len(name) > _LONGEST:
            raise BadInput(f"task {path!r}: its name in AzureML would have {len(name)} characters (at most {_LONGEST})")
        taken[name] = path
    return {path: name for name, path in taken.items()}


def distinct_ports(names: Iterable[str], place: str) -> dict[str, str]:
    """Return the port of each name. Raises BadInput naming `place` where two would share one."""
    taken: dict[str, str] = {}
    for name in names:
        port = port_name(name)
        if port.lower() in taken:
            raise BadInput(f"{place}: {taken[port.lower()]!r} and {name!r} would both be {port!r} in AzureML")
        taken[port.lower()] = name
    return {name: port_name(name) for name in taken.values()}
