"""`$(VAR)` in environment values, as Kubernetes expands it: variables defined before, in order; `$$(VAR)` stays as `$(VAR)`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_REFERENCE = re.compile(r"\$\$|\$\((?P<name>[A-Za-z_][A-Za-z0-9_.-]*)\)")


def expand_variables(given: Mapping[str, str], declared: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return `given` and `declared` together; a declared value may refer to what comes before it. Unknown references stay."""
    known = dict(given)
    for name, value in declared:
        known[name] = _REFERENCE.sub(lambda match: _replacement(match, known), value)
    return known


def hidden_variables(secret: Iterable[str], declared: Iterable[tuple[str, str]]) -> set[str]:
    """Return the names of the variables that hold a secret's value: the `secret` ones, and declared ones that refer to one."""
    hidden = set(secret)
    for name, value in declared:
        if any(match["name"] in hidden for match in _REFERENCE.finditer(value)):
            hidden.add(name)
        else:
            hidden.discard(name)  # a declared variable goes before a secret's of the same name
    return hidden


def _replacement(match: re.Match[str], known: Mapping[str, str]) -> str:
    if match.group() == "$$":
        return "$"
    return known.get(match["name"], match.group())
