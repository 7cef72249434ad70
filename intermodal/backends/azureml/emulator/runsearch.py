"""MLflow's filter and order of runs: `metrics.f1 > 0.8 and tags.kind = 'final'`, `metrics.f1 DESC`.

Source: https://mlflow.org/docs/latest/search-runs. What is not understood is refused, never dropped.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from intermodal.backends.azureml.emulator.answers import Refused

_FIELD = (
    r"(?:(?P<kind>metrics?|params?|parameters?|tags?|attributes?|attr|run)\.)?(?P<name>`[^`]+`|\"[^\"]+\"|[\w./-]+)"
)
_CONDITION = re.compile(
    rf"\s*{_FIELD}\s*(?P<operator>!=|>=|<=|=|>|<|LIKE\b|ILIKE\b|IN\b)\s*(?P<value>'[^']*'|\"[^\"]*\"|\([^)]*\)|[\w.+-]+)\s*",
    re.IGNORECASE,
)
_ORDER = re.compile(rf"\s*{_FIELD}(?:\s+(?P<direction>ASC|DESC))?\s*", re.IGNORECASE)
_AND = re.compile(r"AND\b", re.IGNORECASE)
_NUMERIC: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


class Shown:
    """A run as MLflow shows it, with its values by name."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        data = document["data"]
        self._values: dict[str, Mapping[str, Any]] = {
            "metric": {item["key"]: float(item["value"]) for item in data["metrics"]},
            "param": {item["key"]: item["value"] for item in data["params"]},
            "tag": {item["key"]: item["value"] for item in data["tags"]},
            "attribute": document["info"],
        }

    def value(self, kind: str, name: str) -> Any:
        return self._values[kind].get(name)


def read_filter(text: str) -> Callable[[Shown], bool]:
    """Return what says whether a run passes a filter; all do for an empty one. Raises Refused."""
    conditions: list[Callable[[Shown], bool]] = []
    place = 0
    while text[place:].strip():
        found = _CONDITION.match(text, place)
        if found is None:
            raise _refused(text)
        conditions.append(_condition(found))
        place = found.end()
        if text[place:].strip():
            joint = _AND.match(text, place)
            if joint is None:
                raise _refused(text)
            place = joint.end()
    return lambda shown: all(condition(shown) for condition in conditions)


def _condition(found: re.Match[str]) -> Callable[[Shown], bool]:
    kind, name, how, raw = _kind(found), _name(found), found["operator"].upper(), found["value"]
    if kind == "metric" or (kind == "attribute" and name in ("start_time", "end_time")):
        if how not in _NUMERIC:
            raise _refused(found[0])
        try:
            number = float(raw.strip("'\""))
        except ValueError as error:
            raise _refused(found[0]) from error
        return lambda shown: (value := shown.value(kind, name)) is not None and _NUMERIC[how](float(value), number)
    if how == "IN":
        wanted = {item.strip().strip("'\"") for item in raw.strip("()").split(",")}
        return lambda shown: shown.value(kind, name) in wanted
    text = raw.strip("'\"")
    if how in ("LIKE", "ILIKE"):
        fold = str.lower if how == "ILIKE" else str
        pattern = re.compile(".*".join(map(re.escape, fold(text).split("%"))), re.DOTALL)
        return lambda shown: (
            (value := shown.value(kind, name)) is not None and bool(pattern.fullmatch(fold(str(value))))
        )
    if how not in ("=", "!="):
        raise _refused(found[0])
    return lambda shown: (value := shown.value(kind, name)) is not None and (str(value) == text) == (how == "=")


def read_order(text: str) -> tuple[Callable[[Shown], Any], bool]:
    """Return what runs are ordered by, and whether the greatest comes first. Raises Refused."""
    found = _ORDER.fullmatch(text)
    if found is None:
        raise _refused(text)
    kind, name = _kind(found), _name(found)
    return lambda shown: shown.value(kind, name), (found["direction"] or "").upper() == "DESC"


def _kind(found: re.Match[str]) -> str:
    said = (found["kind"] or "attribute").lower().rstrip("s")
    return {"parameter": "param", "attr": "attribute", "run": "attribute"}.get(said, said)


def _name(found: re.Match[str]) -> str:
    return found["name"].strip('`"')


def _refused(text: str) -> Refused:
    return Refused(400, "BadRequest", f"the emulator does not understand {text.strip()!r}")
