"""Pod field paths (`metadata.labels['a']`, `metadata.name`) outside of a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping

from intermodal.errors import BadInput
from intermodal.spec.types import KubernetesSettings

_FIELD = re.compile(r"metadata\.(?P<kind>labels|annotations)\[['\"](?P<key>[^'\"]+)['\"]\]")


def field_value(path: str, settings: KubernetesSettings, names: Mapping[str, str], place: str) -> str:
    """Return the value of a pod field path; `names` gives `metadata.name` and so on. Raises BadInput for one that means nothing here."""
    if match := _FIELD.fullmatch(path):
        pairs = dict(settings.labels if match["kind"] == "labels" else settings.annotations)
        return pairs.get(match["key"], "")
    if path in names:
        return names[path]
    raise BadInput(
        f"{place}: the field path {path!r} has no meaning on one machine",
        hint=f"known: {', '.join(names)}, labels, annotations",
    )
