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


def _replacement(match: re.Match[str], known: Mapping[str, str]) -> str:
    if match.group() == "$$":
        return "$"
    return known.get(match["name"], match.group())
